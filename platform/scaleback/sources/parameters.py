"""Categories of FractalDB as its authors publish them: a CSV file each, a row a map, columns a, b, c, d, e, f, p."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaleback.core.errors import DataError, refusal, short
from scaleback.sources.ifs import PARAMETERS, System
from scaleback.sources.real import natural

MOST_MAPS = 256
"""The kernels keep the map of each step in a byte."""
P_SUM_TOLERANCE = 1e-6


class Category(NamedTuple):
    """A system and the chance of each of its maps, as a file states them."""

    system_M6: System
    chance_M: NDArray[np.float64]


class Published(NamedTuple):
    """The first so many categories of a folder."""

    categories: tuple[Category, ...]
    files: tuple[Path, ...]
    digest: str


@lru_cache(maxsize=16)
def category_files(folder: str) -> tuple[Path, ...]:
    """The CSV files of a folder and its sub-folders (40 of 25 files as released), in numeric order of their names.

    Raises:
        DataError: there is none, or two have one name.
    """
    files = sorted(Path(folder).rglob("*.csv"), key=lambda file: (natural(file.stem), str(file)))
    if not files:
        raise DataError(f"{folder}: holds no category (.csv)")
    for before, file in pairwise(files):
        if before.stem == file.stem:
            raise DataError(f"{file}: is the second category of that name; the first is {before}")
    return tuple(files)


@lru_cache(maxsize=4)
def read_published(folder: str, categories: int) -> Published:
    """Read the first ``categories`` of a folder; the digest is of their names and bytes.

    Raises:
        DataError: a file is not of this form; the message names it and its row.
    """
    files, digest = category_files(folder)[:categories], hashlib.sha256()
    found = []
    for file in files:
        try:
            data = file.read_bytes()
            text = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: cannot be read ({short(str(error))})") from None
        digest.update(repr((file.name, len(data))).encode() + data)
        found.append(_category(text, str(file)))
    return Published(tuple(found), files, digest.hexdigest())


def _category(text: str, where: str) -> Category:
    rows = [_row(line, f"{where}: row {number}") for number, line in enumerate(text.rstrip().splitlines())]
    if not 1 <= len(rows) <= MOST_MAPS:
        raise DataError(f"{where}: {refusal(f'must have 1 to {MOST_MAPS} rows, one a map', len(rows))}")
    table_M7 = np.array(rows)
    total = float(table_M7[:, PARAMETERS].sum())
    if abs(total - 1) > P_SUM_TOLERANCE:
        raise DataError(f"{where}: {refusal('the last column, the chances of the maps, must sum to 1', total)}")
    return Category(table_M7[:, :PARAMETERS].copy(), table_M7[:, PARAMETERS].copy())


def _row(line: str, where: str) -> list[float]:
    try:
        numbers = [float(cell) for cell in line.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != PARAMETERS + 1 or not np.isfinite(numbers).all():
        raise DataError(f"{where}: {refusal('must be seven finite numbers a,b,c,d,e,f,p', line)}")
    if numbers[PARAMETERS] < 0:
        raise DataError(f"{where}: {refusal('p, the chance of the map, must be at least 0', numbers[PARAMETERS])}")
    return numbers
