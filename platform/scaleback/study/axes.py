"""Axes: a dotted field of the run and its values. Exhaustive ones are run point by point, searched ones by Optuna."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from scaleback.core.errors import Refusal, SpecError, one_line, refusal, short, unknown
from scaleback.core.plain import parse_yaml
from scaleback.core.spec import Spec, variants

LONGEST_VALUE = 10_000
"""Characters of one value on the command line."""


def _lists(values: object) -> object:
    """Values are JSON, so what strict parsing made tuples of are lists again."""
    return tuple(_list(value) for value in values) if isinstance(values, tuple | list) else values


def _list(value: object) -> object:
    return [_list(item) for item in value] if isinstance(value, tuple) else value


Values = Annotated[tuple[JsonValue, ...], BeforeValidator(_lists)]


class _Axis(Spec):
    """A dotted field of the run."""

    field: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a run that the axis sets."""
        return (self.field,)

    def changes(self, value: JsonValue) -> dict[str, JsonValue]:
        """What a value of the axis sets in a run."""
        return {self.field: value}


class Grid(_Axis):
    """Every value is run and kept: what a curve needs."""

    kind: Literal["grid"] = "grid"
    values: Values = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for place, value in enumerate(self.values):
            if value in self.values[:place]:
                raise Refusal("values", refusal("must differ from each other", value))
        return self


class Cases(_Axis):
    """Named settings of several fields at once, such as a method with its own recipe; every one is run and kept."""

    kind: Literal["cases"] = "cases"
    field: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """What is told apart, such as ``method``; a name of the study's own, no field of the run."""
    cases: dict[str, dict[str, JsonValue]] = Field(min_length=1)
    """Name to what it sets: dotted fields of the run."""

    @property
    def values(self) -> tuple[JsonValue, ...]:
        """The names."""
        return tuple(self.cases)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(field for case in self.cases.values() for field in case))

    def changes(self, value: JsonValue) -> dict[str, JsonValue]:
        return self.cases[str(value)]

    def only(self, names: str) -> Cases:
        """Some of the cases in the order of their ``names``, such as ``mae,moco-v3``; quotes hold a name with commas.

        Raises:
            SpecError: a name that is no case, or one that comes twice.
        """
        cases: dict[str, dict[str, JsonValue]] = {}
        for part in split_values(names):
            name = part.strip().strip("'\"")
            if name not in self.cases:
                raise SpecError(f"--axis {self.field}: {unknown('case', name, self.cases)}")
            if name in cases:
                raise SpecError(f"--axis {self.field}: {refusal('must differ from each other', name)}")
            cases[name] = self.cases[name]
        return self.model_copy(update={"cases": cases})


class Range(_Axis):
    """Values between two ends, proposed by a sampler."""

    kind: Literal["range"] = "range"
    low: float
    high: float
    scale: Literal["lin", "log"] = "lin"
    whole: bool = False
    """Whole numbers only."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise Refusal("low", refusal(f"must be below the upper end {self.high:g}", self.low))
        if self.scale == "log" and self.low <= 0:
            raise Refusal("low", refusal("must be positive on a logarithmic scale", self.low))
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise Refusal("low", refusal("both ends must be whole numbers", (self.low, self.high)))
        return self

    def inside(self) -> tuple[JsonValue, JsonValue]:
        """The two ends as the field takes them."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


class Choice(_Axis):
    """Values of which a sampler proposes one."""

    kind: Literal["choice"] = "choice"
    values: Values = Field(min_length=2)


AXES: Mapping[str, type[Grid] | type[Cases] | type[Range] | type[Choice]] = {
    "grid": Grid,
    "cases": Cases,
    "range": Range,
    "choice": Choice,
}

if TYPE_CHECKING:
    AnyAxis: TypeAlias = Grid | Cases | Range | Choice
else:
    AnyAxis = variants(AXES)

RANGES: Mapping[str, tuple[Literal["lin", "log"], bool]] = {
    "lin": ("lin", False),
    "log": ("log", False),
    "int": ("lin", True),
    "logint": ("log", True),
}


def parse_axis(text: str) -> Grid | Range | Choice:
    """``source.delta=0.01,0.1`` | ``source.delta=log:0.005..0.5`` | ``objective=choice:classify,1p-frac``.

    Raises:
        SpecError: the text has another form.
    """
    field, body = split_axis(text)
    head, colon, rest = body.partition(":")
    if not colon or not re.fullmatch(r"\w+", head):
        return Grid.parse(
            {"field": field, "values": [parse_value(part, f"--axis {field}") for part in split_values(body)]},
            at=f"--axis {field}",
        )
    if head == "choice":
        return Choice.parse(
            {"field": field, "values": [parse_value(part, f"--axis {field}") for part in split_values(rest)]},
            at=f"--axis {field}",
        )
    if head not in RANGES:
        raise SpecError(f"--axis {field}: {unknown('scale', head, [*RANGES, 'choice'])}")
    low, dots, high = rest.partition("..")
    try:
        ends = (float(low), float(high))
    except ValueError:
        dots, ends = "", (math.nan, math.nan)
    if not dots:
        raise SpecError(f"--axis {field}: must be {head}:LOW..HIGH, two numbers; got {short(body)}")
    scale, whole = RANGES[head]
    return Range.parse(
        {"field": field, "low": ends[0], "high": ends[1], "scale": scale, "whole": whole}, at=f"--axis {field}"
    )


def split_axis(text: str) -> tuple[str, str]:
    """The field and the values of ``FIELD=VALUES``.

    Raises:
        SpecError: one of them is missing.
    """
    field, equals, body = text.partition("=")
    if not equals or not field.strip() or not body.strip():
        raise SpecError(f"--axis: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW..HIGH; got {short(text)}")
    return one_line(field.strip()), body


def split_values(text: str) -> list[str]:
    """Cut at commas that are not inside brackets or quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def inside(field: str, outer: str) -> bool:
    """Whether a dotted field is ``outer`` or lies below it."""
    return field == outer or field.startswith(f"{outer}.")


def parse_value(text: str, where: str) -> JsonValue:
    """A number, true, false, null, a bracketed list or mapping, or else a plain string.

    Raises:
        SpecError: no plain value; the line begins with ``where``.
    """
    text = text.strip()
    if len(text) > LONGEST_VALUE:
        raise SpecError(f"{where}: a value must have at most {LONGEST_VALUE:,} characters; got {len(text):,}")
    words: dict[str, JsonValue] = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            value = number(text.replace("_", "") if re.fullmatch(r"[\d_]+", text) else text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    if text[:1] in ("{", "[", '"', "'"):
        loaded: JsonValue = parse_yaml(text, where)
        return loaded
    return text
