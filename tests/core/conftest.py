"""A store on an object store."""

import pytest
from pyarrow import fs as arrow_fs

from scaleback.core.store import Store


@pytest.fixture
def bucket():
    """A store on an object store: a bucket in memory, reached as a store on S3 reaches its own."""
    fsspec = pytest.importorskip("fsspec")
    remote = Store("mock:///bucket/results")
    memory = arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(fsspec.filesystem("memory", skip_instance_cache=True)))
    remote._fs = arrow_fs.SubTreeFileSystem("/", memory)  # memory's paths start with a slash, those of S3 do not
    assert not remote.local
    yield remote
    remote.remove("render")
    remote.remove("leases")
