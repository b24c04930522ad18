"""The file of a block: a Parquet table, a row an image, with its index, labels, pixels and facts.

Pixels of bytes are one binary value a row, with zstd. Pictures of bits are mostly words of nothing: a row holds the
words that are not zero, with lz4 where that helps, and a bit for every word that says whether it is. Measured by
``jobs/bench_render.py`` on 1p-frac at 512 px, where drawing takes 0.13 ms: 14 KB and 0.03 ms an image for the whole
file. For the pixels alone lz4 on bits takes 12 KB and 0.04 ms, zstd on bits 9 KB and 0.05 ms, zstd on bytes 14 KB and
0.2 ms, PNG 21 KB and 2 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scaleback.sources.base import BitSamples, Samples, from_bits

# Shapes: B images of a block, H rows, W columns, C channels, X bytes of an image, K words of 64 bits.

FILE = "images.parquet"
PROBED_BYTES, WORTH = 1 << 16, 0.6
LEVEL = b"level"
"""In the file's metadata where pixels are bits: the value of a set one."""


def pack(batches: Iterable[tuple[NDArray[np.int64], Samples | BitSamples]], sink: Any) -> None:
    """Write the file that holds these images, given by index and a batch at a time; a batch is a row group.

    Args:
        batches: indices and images.
        sink: an open file.
    """
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for index_B, samples in batches:
            table = _table(index_B, samples)
            if writer is None:
                ways = dict.fromkeys(table.column_names, "zstd")
                if samples.level is not None:
                    ways["image"] = _way(table)
                options = {"compression": ways, "use_dictionary": False, "write_statistics": False}
                writer = stack.enter_context(pq.ParquetWriter(sink, table.schema, **options))
            writer.write_table(table)


def _way(table: pa.Table) -> str:
    """lz4 where the first words get much smaller by it.

    It takes a fifth of the time of drawing, and takes a quarter off random masks, half and more off full ones.
    """
    words = table["image"].chunk(0).buffers()[2][:PROBED_BYTES]
    return "lz4" if words.size and pa.Codec("lz4_raw").compress(words).size < WORTH * words.size else "none"


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


def _table(index_B: NDArray[np.int64], samples: Samples | BitSamples) -> pa.Table:
    stored_BX = samples.stored.reshape(len(samples.stored), -1)
    columns: dict[str, Any] = {"index": pa.array(index_B), "label": _rows(samples.label_B)}
    if samples.level is None:
        columns["image"] = _rows(stored_BX)
    else:
        columns["occupied"], columns["image"] = _squeezed(stored_BX)
    columns |= {f"fact_{name}": _rows(value.reshape(len(value), -1)) for name, value in samples.facts.items()}
    table = pa.table(columns)
    return table if samples.level is None else table.replace_schema_metadata({LEVEL: str(samples.level)})


def unpack(data: bytes, image_BHWC: NDArray[np.uint8], label_B: NDArray[np.int64]) -> None:
    """Put the first images of a file, and their labels, into arrays: as many as these have room for."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        start = 0
        for group in range(file.num_row_groups):
            if start < len(image_BHWC):
                table = file.read_row_group(group)
                count = min(len(table), len(image_BHWC) - start)
                image_BHWC[start : start + count] = _images(table, image_BHWC.shape[1:], count)
                label_B[start : start + count] = _labels(table)[:count]
                start += count


def _images(table: pa.Table, shape: tuple[int, ...], count: int) -> NDArray[np.uint8]:
    """(B, H, W, C) the first ``count`` images of a row group."""
    level = (table.schema.metadata or {}).get(LEVEL)
    if level is None:
        return _binary(table["image"], len(table))[:count].reshape(count, *shape)
    bytes_X = shape[0] * -(-shape[1] // 8)
    occupied_BK = np.unpackbits(_binary(table["occupied"], len(table))[:count], axis=1, count=-(-bytes_X // 8))
    words_BK = np.zeros(occupied_BK.shape, np.uint64)
    words = np.frombuffer(table["image"].combine_chunks().buffers()[2], np.uint64)
    words_BK[occupied_BK.view(np.bool_)] = words[: np.count_nonzero(occupied_BK)]
    bits_BX = words_BK.view(np.uint8)[:, :bytes_X]
    return from_bits(bits_BX.reshape(count, shape[0], -1), shape[1], int(level))


def _labels(table: pa.Table) -> NDArray[np.int64]:
    """(B,), or (B, L) where an image may show L classes."""
    column = table["label"].combine_chunks()
    several = isinstance(column, pa.FixedSizeListArray)
    label_B: NDArray[np.int64] = column.flatten().to_numpy().reshape(len(table), -1) if several else column.to_numpy()
    return label_B


def _squeezed(bits_BX: NDArray[np.uint8]) -> tuple[pa.Array, pa.Array]:
    """Which words are not zero, and those words."""
    from scaleback.sources.kernels.squeeze import squeezed

    if bits_BX.shape[1] % 8:
        bits_BX = np.pad(bits_BX, ((0, 0), (0, -bits_BX.shape[1] % 8)))
    occupied_BX, end_B, word_N = squeezed(np.ascontiguousarray(bits_BX).view(np.uint64))
    buffers = [None, pa.py_buffer(end_B), pa.py_buffer(word_N)]
    return _rows(occupied_BX), pa.Array.from_buffers(pa.binary(), len(bits_BX), buffers)


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
