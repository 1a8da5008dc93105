import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dlf_jax.storage import settings
from dlf_jax.storage import store as stores
from tests.storage.object_store import Faults, served


@pytest.fixture(scope='session')
def s3_server():
    with served() as proxy:
        yield proxy


@pytest.fixture
def s3(s3_server):
    """The proxy before an S3 server, without faults."""
    s3_server.faults = Faults()
    stores._store.cache_clear()
    yield s3_server
    s3_server.faults = Faults()


@pytest.fixture
def memory(request):
    """A folder of the store in memory, empty."""
    objects = MemoryFileSystem.store
    objects.clear()
    yield f'memory://{request.node.originalname}'
    objects.clear()


@pytest.fixture(autouse=True)
def cache(tmp_path):
    """A local cache of the test's own, and little patience."""
    settings.choose(cache=tmp_path / 'cache', patience=30)
    yield tmp_path / 'cache'
    settings.choose(cache=None, patience=None, cache_gb=None, lock_seconds=None)


@pytest.fixture
def bucket(s3, request):
    """A folder of a bucket that no other test has."""
    return f's3://bucket/{request.node.name}'
