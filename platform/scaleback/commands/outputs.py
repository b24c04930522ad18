"""What a command writes: refused before anything is made, and whole or absent after."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaleback.core.errors import InputError, refusal
from scaleback.core.plain import exists


def refuse_out(out: Path, rule: str, *, replaces: bool = False) -> None:
    """Refuse an ``--out`` that is taken, has no folder, or whose folder cannot be written; a file may be replaced."""
    folder = out.absolute().parent
    try:
        fits = stat.S_ISREG(os.stat(out).st_mode) and replaces
    except FileNotFoundError:
        fits = exists(folder)
    except (OSError, ValueError):
        fits = False  # a name that nothing can have
    if not fits:
        raise InputError(f"--out: {refusal(rule, str(out))}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--out: {refusal(f'its folder cannot be written ({error.strerror})', str(out))}") from None


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A path beside ``out``. What is there when the block has ended becomes ``out``; after an error nothing is left."""
    try:
        with tempfile.TemporaryDirectory(prefix=".scaleback-", dir=out.absolute().parent) as scratch:
            made = Path(scratch) / "made"
            yield made
            made.rename(out)
    except OSError as error:
        raise InputError(f"--out: {refusal(f'cannot be written ({error.strerror or error})', str(out))}") from None
