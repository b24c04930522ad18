"""The file of a block: a table in Arrow's file format, a row an image, with its index, labels, pixels and facts.

Pixels of bytes are one binary value a row, with zstd. Pictures of bits are mostly nothing: a row holds the bytes that
are not zero (``image``), and a bit for every byte that says whether it is; as these bits are mostly nothing too, they
are held in the same way (``mask``, ``outer_mask``). Nothing else is compressed: lz4 takes nothing off what random masks
leave, and a sixth off what full ones do. Measured by ``jobs/bench_render.py`` on 1p-frac at 512 px, where drawing takes
0.13 ms and ends with the pixels squeezed: 9 KB and 0.003 ms an image for the whole file. For the pixels alone lz4 on
bits takes 12 KB and 0.04 ms, zstd on bits 9 KB and 0.05 ms, zstd on bytes 14 KB and 0.2 ms, PNG 21 KB and 2 ms.

Arrow's format writes columns as they lie in memory, and reads them where they lie. Parquet copies them twice on the
way, which takes as long as all the rest of packing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from scaleback.core.errors import IntegrityError
from scaleback.sources.base import BitSamples, Samples
from scaleback.sources.pictures import Pictures, mask_bytes

# Shapes: B images of a batch, H rows, W columns, C channels, X bytes of an image, N bytes that are not zero.

FILE = "images.arrow"
LEVEL = b"level"
"""In the file's metadata where pixels are bits: the value of a set one."""


def pack(batches: Iterable[tuple[NDArray[np.int64], Samples | BitSamples]], sink: Any) -> None:
    """Write the file that holds these images, given by index and a batch at a time.

    Args:
        batches: indices and images.
        sink: an open file.
    """
    with ExitStack() as stack:
        writer: pa.RecordBatchFileWriter | None = None
        for index_B, samples in batches:
            rows = _rows(index_B, samples)
            if writer is None:
                options = pa.ipc.IpcWriteOptions(
                    compression="zstd" if samples.level is None else None, use_threads=False
                )
                writer = stack.enter_context(pa.ipc.new_file(sink, rows.schema, options=options))
            writer.write_batch(rows)


def _rows(index_B: NDArray[np.int64], samples: Samples | BitSamples) -> pa.RecordBatch:
    """A batch as it is in the file."""
    columns = {"index": _column(index_B), "label": _column(samples.label_B)}
    columns |= {f"fact_{name}": _column(value.reshape(len(value), -1)) for name, value in samples.facts.items()}
    if isinstance(samples, Samples):
        return pa.record_batch({**columns, "image": _column(samples.image_BHWC.reshape(len(index_B), -1))})
    from scaleback.sources.kernels.squeeze import squeezed

    pictures = samples.pictures
    byte_N, end_B, outer_BX = squeezed(pictures.mask_BX)
    columns |= {
        "image": _pieces(pictures.byte_N, pictures.end_B),
        "mask": _pieces(byte_N, end_B),
        "outer_mask": _column(outer_BX),
    }
    return pa.record_batch(columns, metadata={LEVEL: str(samples.level)})


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
        IntegrityError: it is no such file.
    """
    try:
        file = pa.ipc.open_file(pa.BufferReader(data), options=pa.ipc.IpcReadOptions(use_threads=False))
        start = 0
        for number in range(file.num_record_batches):
            if start < len(image_BHWC):
                rows = file.get_batch(number)
                rows.validate(full=True)
                here = slice(start, min(start + len(rows), len(image_BHWC)))
                _put_images(rows, image_BHWC[here])
                label_B[here] = _labels(rows["label"])[: here.stop - start]
                start = here.stop
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise IntegrityError(f"is not a file of images ({error})") from error


def _put_images(rows: pa.RecordBatch, image_BHWC: NDArray[np.uint8]) -> None:
    """The first images of a batch."""
    count, height, width, _ = image_BHWC.shape
    level = (rows.schema.metadata or {}).get(LEVEL)
    if level is None:
        image_BHWC[:] = _binary(rows["image"])[:count].reshape(image_BHWC.shape)
        return
    from scaleback.sources.kernels.squeeze import spread

    mask_BX = spread(*_bytes_of(rows["mask"]), _binary(rows["outer_mask"]))[:, : mask_bytes(height, width)]
    byte_N, end_B = _bytes_of(rows["image"])
    pictures = Pictures(height=height, width=width, byte_N=byte_N, end_B=end_B, mask_BX=mask_BX)
    pictures[:count].put(image_BHWC, int(level))


def _labels(column: pa.Array) -> NDArray[np.int64]:
    """(B,), or (B, L) where an image may show L classes."""
    several = isinstance(column, pa.FixedSizeListArray)
    label_B: NDArray[np.int64] = column.flatten().to_numpy().reshape(len(column), -1) if several else column.to_numpy()
    return label_B


def _bytes_of(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """What ``_pieces`` made a column of."""
    _, ends, data = column.buffers()
    end_B = np.frombuffer(ends, np.int32)[: len(column) + 1]
    return np.frombuffer(data, np.uint8)[: end_B[-1]], end_B


def _pieces(byte_N: NDArray[np.uint8], end_B: NDArray[np.int32]) -> pa.Array:
    """A row of bytes up to each end."""
    return pa.Array.from_buffers(pa.binary(), len(end_B) - 1, [None, pa.py_buffer(end_B), pa.py_buffer(byte_N)])


def _binary(column: pa.Array) -> NDArray[np.uint8]:
    """(B, X) a column of fixed-size binary values."""
    return np.frombuffer(column.buffers()[1], np.uint8).reshape(len(column), -1)


def _column(value_BX: NDArray[Any]) -> pa.Array:
    """Numbers as they are, or a row of them as a fixed-size list; a row of bytes as one binary value."""
    if value_BX.ndim == 1:
        return pa.array(value_BX)
    width = value_BX.shape[1]
    if value_BX.dtype == np.uint8:
        data = pa.py_buffer(np.ascontiguousarray(value_BX))
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(value_BX), [None, data])
    return pa.FixedSizeListArray.from_arrays(pa.array(value_BX.ravel()), width)
