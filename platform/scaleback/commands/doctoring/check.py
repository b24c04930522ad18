"""One line of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and how it is."""

    what: str
    state: State
    found: str
    cure: str = ""
    """What to do about it; empty where nothing is to be done."""

    def __str__(self) -> str:
        return f"{self.state:5}{self.what}: {self.found}" + (f"; {self.cure}" if self.cure else "")


def judged(what: str, good: bool, found: str, cure: str, otherwise: State = "fail") -> Check:
    """``ok`` without a cure, or ``otherwise`` with one."""
    return Check(what, "ok", found) if good else Check(what, otherwise, found, cure)
