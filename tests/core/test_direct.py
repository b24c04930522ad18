import errno
import fcntl
import os
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleback.core import direct
from scaleback.core.direct import ALIGNED_BYTES, DirectFile

SMALL_PIECE = 2 * ALIGNED_BYTES
EDGES = [0, 1, ALIGNED_BYTES - 1, ALIGNED_BYTES, SMALL_PIECE - 1, SMALL_PIECE, SMALL_PIECE + 1, 5 * SMALL_PIECE + 7]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(direct, "PIECE_BYTES", SMALL_PIECE)
    monkeypatch.setattr(direct, "_spare", [])


def write(path, parts):
    with DirectFile(str(path)) as file:
        for part in parts:
            assert file.write(part) == len(part)
        file.flush()
        os.fsync(file.fileno())
    return b"".join(bytes(part) for part in parts)


@given(sizes=st.lists(st.sampled_from(EDGES) | st.integers(0, 3 * SMALL_PIECE), max_size=5), seed=st.integers(0, 255))
def test_a_file_is_what_was_written_whatever_the_sizes(tmp_path_factory, sizes, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "PIECE_BYTES", SMALL_PIECE)
        patch.setattr(direct, "_spare", [])
        path = tmp_path_factory.mktemp("direct") / "a"
        parts = [bytes((seed + number + at) % 251 for at in range(size)) for number, size in enumerate(sizes)]
        assert write(path, parts) == path.read_bytes()


def test_pieces_are_used_again_and_show_nothing_of_the_file_before(tmp_path, small_pieces):
    write(tmp_path / "a", [b"x" * (3 * SMALL_PIECE)])
    spare = list(direct._spare)
    assert len(spare) == 3
    assert write(tmp_path / "b", [b"y" * (SMALL_PIECE + 5)]) == (tmp_path / "b").read_bytes()
    assert sorted(map(id, direct._spare)) == sorted(map(id, spare))


def test_pieces_of_a_file_that_is_given_up_come_back(tmp_path, small_pieces):
    with suppress(ZeroDivisionError), DirectFile(str(tmp_path / "a")) as file:
        file.write(b"x" * SMALL_PIECE)
        raise ZeroDivisionError
    assert len(direct._spare) == 1
    assert (tmp_path / "a").read_bytes() == b""


def test_an_older_file_of_that_name_is_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"longer than what comes")
    assert write(tmp_path / "a", [b"short"]) == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize(
    "buffer",
    [
        bytearray(b"ab"),
        memoryview(bytes(range(8))).cast("H", (2, 2)),
        np.arange(6, dtype=np.uint16).reshape(2, 3),
        pa.py_buffer(b"cd"),
    ],
    ids=["bytearray", "of two dimensions", "numpy", "arrow"],
)
def test_any_contiguous_buffer_is_written(tmp_path, buffer):
    with DirectFile(str(tmp_path / "a")) as file:
        assert file.write(buffer) == memoryview(buffer).nbytes
        file.flush()
    assert (tmp_path / "a").read_bytes() == bytes(memoryview(buffer))


def is_direct(file):
    return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_DIRECT)


def test_a_file_is_written_past_the_cache_where_the_file_system_can(tmp_path):
    try:
        os.close(os.open(tmp_path / "probe", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"{tmp_path}: {error}")
    with DirectFile(str(tmp_path / "a")) as file:
        file.write(b"abc" * 10_000)
        file.flush()
        assert is_direct(file)
    assert (tmp_path / "a").read_bytes() == b"abc" * 10_000


@pytest.mark.parametrize("refused", ["open", "write"])
def test_a_file_system_without_direct_writes_is_written_through_the_cache(tmp_path, monkeypatch, refused):
    real_open, real_write = os.open, os.write

    def refusing_open(path, flags, mode):
        if refused == "open" and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags, mode)

    def refusing_write(descriptor, data):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_write(descriptor, data)

    monkeypatch.setattr(direct.os, "open", refusing_open)
    monkeypatch.setattr(direct.os, "write", refusing_write)
    with DirectFile(str(tmp_path / "a")) as file:
        file.write(b"abc" * 10_000)
        file.flush()
        assert not is_direct(file)
    assert (tmp_path / "a").read_bytes() == b"abc" * 10_000


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EINVAL])
def test_what_the_disk_refuses_is_raised(tmp_path, monkeypatch, code):
    def refusing(descriptor, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(direct.os, "write", refusing)
    with DirectFile(str(tmp_path / "a")) as file:
        file.write(b"abc")
        with pytest.raises(OSError, match=os.strerror(code)):
            file.flush()


def test_a_disk_that_takes_little_at_a_time_gets_all(tmp_path, monkeypatch):
    real_write = os.write
    monkeypatch.setattr(direct.os, "write", lambda descriptor, data: real_write(descriptor, data[:ALIGNED_BYTES]))
    assert write(tmp_path / "a", [bytes(range(256)) * 100]) == (tmp_path / "a").read_bytes()
