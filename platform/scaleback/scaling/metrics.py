"""How a measured number is read and written: which end is better, and whether it is a share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scaleback.scaling.intervals import Interval  # scipy


@dataclass(frozen=True, slots=True)
class Metric:
    """One kind of number."""

    better: Literal["high", "low", "neither"]
    """``neither`` where the best value is between, as of a ratio that should be 1."""
    share: bool = False
    """Whether it is written in percent, and a difference of two in points."""

    @property
    def factor(self) -> float:
        """From the value to what is written and drawn."""
        return 100.0 if self.share else 1.0

    @property
    def sign(self) -> int:
        """Makes the better of two values the larger; 0 where neither is."""
        return {"high": 1, "low": -1, "neither": 0}[self.better]

    def headed(self, label: str) -> str:
        """``knn.accuracy, %``: over a column, beside an axis."""
        return f"{label}, %" if self.share else label

    def number(self, value: float) -> str:
        """``72.1`` of 0.721; ``0.0025``."""
        if self.share:
            return f"{100 * value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"

    def text(self, value: float) -> str:
        """``72.1 %``."""
        return f"{self.number(value)} %" if self.share else self.number(value)

    def level(self, interval: Interval) -> str:
        """``72.1 % [70.0, 74.2]``."""
        return f"{self.text(interval.mean)} {self.bounds(interval)}".strip()

    def bounds(self, interval: Interval) -> str:
        """``[70.0, 74.2]``; empty without an interval."""
        if interval.low is None or interval.high is None:
            return ""
        return f"[{self.number(interval.low)}, {self.number(interval.high)}]"

    def change(self, interval: Interval) -> str:
        """``+3.2 points [1.0, 5.4]``."""
        sign, unit = "+" if interval.mean >= 0 else "", " points" if self.share else ""
        return f"{sign}{self.number(interval.mean)}{unit} {self.bounds(interval)}".strip()

    def error(self, value: float) -> float:
        """What a law is fitted to: what is left to a share of 1, or a number that is better low as it is."""
        return 1 - value if self.better == "high" else value

    @property
    def has_error(self) -> bool:
        """Whether less than all is a distance from perfection that a law may describe."""
        return self.better == "low" or (self.better == "high" and self.share)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A measure as the report shows it."""

    label: str
    evaluation: str
    metric: str
    images_seen: int | None
    kind: Metric

    @property
    def headed(self) -> str:
        """``knn.accuracy, %``."""
        return self.kind.headed(self.label)


ACCURACY = Metric("high", share=True)
