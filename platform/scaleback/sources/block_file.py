"""The file of a block: a Parquet table, a row an image, with its index, labels, pixels and facts.

Pixels of bytes are one binary value a row, with zstd. Pictures of bits are mostly nothing: a row holds the bytes that
are not zero (``image``), and a bit for every byte that says whether it is; as these bits are mostly nothing too, they
are held in the same way (``mask``, ``outer_mask``). Nothing else is compressed: lz4 takes nothing off what random masks
leave, and a sixth off what full ones do. Measured by ``jobs/bench_render.py`` on 1p-frac at 512 px, where drawing takes
0.13 ms: 9 KB and 0.017 ms an image for the whole file. For the pixels alone lz4 on bits takes 12 KB and 0.04 ms, zstd
on bits 9 KB and 0.05 ms, zstd on bytes 14 KB and 0.2 ms, PNG 21 KB and 2 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scaleback.core.errors import IntegrityError
from scaleback.sources.base import BitSamples, Samples, from_bits

if TYPE_CHECKING:
    from scaleback.sources.kernels.squeeze import Squeezed

# Shapes: B images of a block, H rows, W columns, C channels, X bytes of an image, N bytes that are not zero.

FILE = "images.parquet"
GROUP_BYTES, GROUP_BYTES_OF_BITS = 1 << 22, 1 << 24
"""A row group holds so much, before pixels of bits are squeezed: each column of each row group takes its own time."""
NEAR_BYTES = 1 << 18
"""Pixels that are made of bits at a time; they stay in the second cache until they are put in place."""
LEVEL = b"level"
"""In the file's metadata where pixels are bits: the value of a set one."""


def pack(batches: Iterable[tuple[NDArray[np.int64], Samples | BitSamples]], sink: Any) -> None:
    """Write the file that holds these images, given by index and a batch at a time.

    Args:
        batches: indices and images.
        sink: an open file.
    """
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for table in _tables(batches):
            if writer is None:
                way = "none" if LEVEL in (table.schema.metadata or {}) else "zstd"
                # The pool that pyarrow would take gives memory back between two row groups, and touches it anew.
                options = {"use_dictionary": False, "write_statistics": False, "memory_pool": pa.system_memory_pool()}
                writer = stack.enter_context(pq.ParquetWriter(sink, table.schema, compression=way, **options))
            writer.write_table(table, row_group_size=len(table))


def _tables(batches: Iterable[tuple[NDArray[np.int64], Samples | BitSamples]]) -> Iterator[pa.Table]:
    """The row groups of a file; one is gone when the next is asked for."""
    group: _Group | None = None
    for index_B, samples in batches:
        group = group or _Group(samples.level)
        group.add(index_B, samples)
        if group.full:
            yield group.table()
    if group and not group.empty:
        yield group.table()


class _Group:
    """Batches of a row group on their way to be a table."""

    def __init__(self, level: int | None) -> None:
        self._level = level
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._bytes = 0
        self._squeezed: dict[str, Squeezed] = {}
        if level is not None:
            from scaleback.sources.kernels.squeeze import Squeezed

            self._squeezed = {"mask": Squeezed(), "image": Squeezed()}

    @property
    def full(self) -> bool:
        return self._bytes >= (GROUP_BYTES if self._level is None else GROUP_BYTES_OF_BITS)

    @property
    def empty(self) -> bool:
        return not self._parts

    def add(self, index_B: NDArray[np.int64], samples: Samples | BitSamples) -> None:
        """Take a batch."""
        stored_BX = samples.stored.reshape(len(samples.stored), -1)
        columns: dict[str, NDArray[Any]] = {"index": index_B, "label": samples.label_B}
        columns |= {f"fact_{name}": value.reshape(len(value), -1) for name, value in samples.facts.items()}
        if self._level is None:
            columns["image"] = stored_BX
        else:
            mask_BX = self._squeezed["image"].add(np.ascontiguousarray(stored_BX))
            columns["outer_mask"] = self._squeezed["mask"].add(mask_BX)
        for name, value in columns.items():
            self._parts.setdefault(name, []).append(value)
        self._bytes += stored_BX.nbytes

    def table(self) -> pa.Table:
        """What was taken, and begin anew."""
        columns = {name: _rows(_whole(parts)) for name, parts in self._parts.items()}
        self._parts, self._bytes = {}, 0
        columns |= {name: _pieces(*squeezed.take()) for name, squeezed in self._squeezed.items()}
        return pa.table(columns, metadata=None if self._level is None else {LEVEL: str(self._level)})


def packed_bytes(index_B: NDArray[np.int64], samples: Samples | BitSamples) -> int:
    """Size of the file that holds these images."""
    sink = _Counter()
    pack([(index_B, samples)], sink)
    return sink.tell()


class _Counter:
    """A file that keeps nothing but its size."""

    closed = False

    def __init__(self) -> None:
        self._bytes = 0

    def write(self, data: Any) -> int:
        self._bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        pass


def unpack(data: bytes, image_BHWC: NDArray[np.uint8], label_B: NDArray[np.int64]) -> None:
    """Put the first images of a file, and their labels, into arrays: as many as these have room for.

    Raises:
        IntegrityError: another version of this file packed them.
    """
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        start = 0
        for group in range(file.num_row_groups):
            if start < len(image_BHWC):
                table = file.read_row_group(group)
                here = slice(start, min(start + len(table), len(image_BHWC)))
                _put_images(table, image_BHWC[here])
                label_B[here] = _labels(table)[: here.stop - start]
                start = here.stop


def _put_images(table: pa.Table, image_BHWC: NDArray[np.uint8]) -> None:
    """The first images of a row group."""
    count, height, width, _ = image_BHWC.shape
    level = (table.schema.metadata or {}).get(LEVEL)
    if level is None:
        image_BHWC[:] = _binary(table["image"], len(table))[:count].reshape(image_BHWC.shape)
        return
    if "outer_mask" not in table.column_names:
        raise IntegrityError("is packed as another version packs; remove it, and it is drawn again")
    bytes_X = height * -(-width // 8)
    mask_BX = _spread(table["mask"], _binary(table["outer_mask"], len(table))[:count], -(-bytes_X // 8))
    bits_BHX = _spread(table["image"], mask_BX, bytes_X).reshape(count, height, -1)
    together = max(1, NEAR_BYTES // (height * width))
    for start in range(0, count, together):
        here = slice(start, start + together)
        image_BHWC[here] = from_bits(bits_BHX[here], width, int(level))


def _labels(table: pa.Table) -> NDArray[np.int64]:
    """(B,), or (B, L) where an image may show L classes."""
    column = table["label"].combine_chunks()
    several = isinstance(column, pa.FixedSizeListArray)
    label_B: NDArray[np.int64] = column.flatten().to_numpy().reshape(len(table), -1) if several else column.to_numpy()
    return label_B


def _whole(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _spread(column: pa.ChunkedArray, mask_BX: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """(B, ``width``) what was squeezed: the bytes of the first rows of a column, where a mask of them says."""
    byte_BX = np.unpackbits(mask_BX, axis=1, count=width, bitorder="little")
    place_N = np.flatnonzero(byte_BX.view(np.bool_))  # twice as fast as a mask
    byte_BX.reshape(-1)[place_N] = np.frombuffer(column.combine_chunks().buffers()[2], np.uint8)[: len(place_N)]
    return byte_BX


def _pieces(byte_N: NDArray[np.uint8], end_B: NDArray[np.int32]) -> pa.Array:
    """A row of bytes up to each end."""
    return pa.Array.from_buffers(pa.binary(), len(end_B) - 1, [None, pa.py_buffer(end_B), pa.py_buffer(byte_N)])


def _binary(column: pa.ChunkedArray, rows: int) -> NDArray[np.uint8]:
    """(B, X) a column of fixed-size binary values."""
    return np.frombuffer(column.combine_chunks().buffers()[1], np.uint8).reshape(rows, -1)


def _rows(value_BX: NDArray[Any]) -> pa.Array:
    """Numbers as they are, or a row of them as a fixed-size list; a row of bytes as one binary value."""
    if value_BX.ndim == 1:
        return pa.array(value_BX)
    width = value_BX.shape[1]
    if value_BX.dtype == np.uint8:
        data = pa.py_buffer(np.ascontiguousarray(value_BX))
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(value_BX), [None, data])
    return pa.FixedSizeListArray.from_arrays(pa.array(value_BX.ravel()), width)
