"""The cache of a node: what it holds, what it drops, what it never hands out."""

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleback.core.cache import ABANDONED_S, CAP_VARIABLE, Cache
from scaleback.core.errors import InputError, IntegrityError
from scaleback.core.spec import Spec
from scaleback.core.store import Store


class Thing(Spec):
    size: int = 1


def key(data):
    return hashlib.sha256(data).hexdigest()


def held(cache):
    return sum(file.stat().st_size for file in cache.folder.iterdir())


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", 1_000)


def test_what_was_kept_comes_back_and_nothing_else(cache):
    assert cache.get(key(b"a")) is None
    cache.put(key(b"a"), b"a")
    assert cache.get(key(b"a")) == b"a"
    assert cache.get(key(b"b")) is None


def test_a_damaged_file_is_dropped(cache):
    cache.put(key(b"right"), b"right")
    (cache.folder / key(b"right")).write_bytes(b"wrong")
    assert cache.get(key(b"right")) is None
    assert held(cache) == 0


def test_what_was_not_read_for_longest_makes_room(cache):
    files = [bytes([number]) * 400 for number in range(3)]
    for age, data in enumerate(files[:2]):
        cache.put(key(data), data)
        os.utime(cache.folder / key(data), (age, age))
    cache.get(key(files[0]))  # now the second was not read for longest
    cache.put(key(files[2]), files[2])
    assert [cache.get(key(data)) is not None for data in files] == [True, False, True]


@given(st.lists(st.binary(max_size=700), max_size=12))
def test_it_never_holds_more_than_its_cap(tmp_path_factory, files):
    cache = Cache(tmp_path_factory.mktemp("cache") / "c", 500)
    for data in files:
        cache.put(key(data), data)
        if cache.folder.exists():
            assert held(cache) <= 500
        assert cache.get(key(data)) == (data if len(data) <= 500 else None)


def test_what_a_dead_process_left_half_written_is_cleared_and_that_of_a_live_one_is_not(cache):
    cache.put(key(b"a"), b"a")
    for name, age_s in (("dead.tmp", ABANDONED_S + 60), ("live.tmp", 0.0)):
        file = cache.folder / name
        file.write_bytes(b"half")
        then = file.stat().st_mtime - age_s
        os.utime(file, (then, then))
    cache.put(key(b"b"), b"b")
    assert {file.name for file in cache.folder.iterdir()} == {key(b"a"), key(b"b"), "live.tmp"}


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache", 1_000)
    cache.put(key(b"a"), b"a")
    assert cache.get(key(b"a")) is None


@pytest.mark.parametrize("stated", ["much", "-1", "nan", "inf"])
def test_a_cap_that_is_no_number_is_refused(monkeypatch, stated):
    monkeypatch.setenv(CAP_VARIABLE, stated)
    with pytest.raises(InputError, match=rf"^{CAP_VARIABLE}: must be a number of gigabytes, 0 for no cache; got "):
        Cache.of_node()


def test_a_remote_store_fetches_a_file_once_and_verifies_what_it_kept(monkeypatch, bucket, cache):
    store, fetched = bucket, []
    store._cache = cache
    manifest = store.publish("render/x", {"a.bin": b"abc"}, spec=Thing(), record={})
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda self, name: fetched.append(name) or get(self, name))
    assert [store.read(manifest, "a.bin") for _ in range(3)] == [b"abc"] * 3
    assert fetched == ["render/x/a.bin"]
    (cache.folder / key(b"abc")).write_bytes(b"abd")
    assert store.read(manifest, "a.bin") == b"abc"
    assert len(fetched) == 2
    store.put("render/x/a.bin", b"abd")
    assert store.read(manifest, "a.bin") == b"abc"  # what the manifest names is still here
    with pytest.raises(IntegrityError, match="has checksum"):
        store.read(manifest, "a.bin", anew=True)


def test_only_remote_stores_of_a_node_with_a_cache_have_one(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for stated, folder in (("1", tmp_path / "scaleback"), ("0", None)):
        monkeypatch.setenv(CAP_VARIABLE, stated)
        found = Store("mock:///bucket/results")._cache
        assert (found.folder if found else None) == folder


def test_a_local_store_keeps_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv(CAP_VARIABLE, "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    store = Store(tmp_path / "store")
    manifest = store.publish("render/x", {"a.bin": b"abc"}, spec=Thing(), record={})
    assert store.read(manifest, "a.bin") == b"abc"
    assert not (tmp_path / "home").exists()
