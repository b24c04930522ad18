"""Machines that the tests of this folder share, and a bucket that all of them reach."""

import pytest

from tests.cluster.nodes.bucket import Bucket
from tests.cluster.nodes.machines import Machines, namespaces_permitted


@pytest.fixture(scope="session")
def permitted():
    if not namespaces_permitted():
        pytest.skip("network namespaces are not permitted here")


@pytest.fixture(scope="session")
def machines(permitted):
    """A head and two nodes of one core; a test that takes one away puts another in its place."""
    with Machines() as made, Bucket(made.host) as bucket:
        made.environment |= bucket.environment
        made.bucket = bucket
        made.start_head()
        for _ in range(2):
            made.start_node()
        yield made
