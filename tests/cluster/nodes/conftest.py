"""Machines that the tests of this folder share, and a bucket that all of them reach."""

import pytest

from tests.cluster.nodes.bucket import Bucket
from tests.cluster.nodes.machines import Machines, namespaces_permitted


@pytest.fixture(scope="session")
def permitted():
    if not namespaces_permitted():
        pytest.skip("network namespaces are not permitted here")


@pytest.fixture(scope="session")
def network(permitted):
    """Machines of which none runs yet."""
    with Machines() as made:
        yield made


@pytest.fixture(scope="session")
def bucket(network):
    """Beside the machines, on the host that they stand on."""
    with Bucket(network.host) as made:
        yield made


@pytest.fixture(scope="session")
def machines(network, bucket):
    """A head and two nodes of one core; a test that takes one away puts another in its place."""
    network.environment |= bucket.environment
    network.start_head()
    for _ in range(2):
        network.start_node()
    return network
