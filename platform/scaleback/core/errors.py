"""The one tree of exceptions, and how a refusal is worded.

Two kinds of wrong: what the user can cure raises from here, with one line that can be acted on; what only we can
cure is an ``assert``.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LISTED_NAMES = 24
"""A refusal lists what is known up to this number of names."""


class ScalebackError(Exception):
    """Anything this package refuses or fails at."""


class InputError(ScalebackError, ValueError):
    """What the user wrote cannot be done; exit code 2, nothing written. One line per fault."""


class SpecError(InputError):
    """The experiment as written cannot exist."""


class PlacementError(InputError):
    """The experiment is fine; this cluster cannot hold it."""


class DataError(InputError):
    """The data a spec points at are missing, unreadable, or fewer than asked for."""


class StoreError(ScalebackError):
    """Stored bytes are not what they should be."""


class DriftError(StoreError):
    """A stored record disagrees with the spec that claims it."""


class IntegrityError(StoreError):
    """A stored file is damaged: its size or checksum is not the recorded one."""


class LeavingError(ScalebackError):
    """This process is about to be taken away; what it did so far is saved."""


class RunError(ScalebackError):
    """A run ended without the number it was meant to give; recorded, and the study goes on."""


class DivergedError(RunError):
    """Training produced a number that is not finite."""


class RenderError(RunError):
    """A source cannot draw an image: its system diverges, or stays too sparse, however often it is redrawn."""


class TokenizerError(RunError):
    """A vocabulary of patches cannot be made of these images, or gives most of their patches one token."""


class Refusal(ValueError):
    """Raised inside a validator to refuse one field of a spec; ``field`` is the dotted path below that spec."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)

    def __reduce__(self) -> tuple[type[Refusal], tuple[str, str]]:
        return Refusal, (self.field, str(self))


def refusal(rule: str, value: object, nearest: str | None = None) -> str:
    """``rule; got value (nearest is 'name')``, on one line."""
    text = f"{rule}; got {short(value)}"
    return f"{text}; the nearest known name is {nearest!r}" if nearest else text


def unknown(what: str, value: str, known: Iterable[str]) -> str:
    """The refusal of a name that is not among ``known``."""
    names = sorted(known)
    close = get_close_matches(value, names, n=1, cutoff=0.6)
    listed = f"known are {', '.join(names)}" if len(names) <= LISTED_NAMES else f"{len(names)} are known"
    return refusal(f"unknown {what}, {listed}", value, close[0] if close else None)


def one_line(text: str) -> str:
    """Text whose control characters and line breaks are written as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def short(value: object, limit: int = 80) -> str:
    """``repr`` on one line, cut to ``limit`` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
