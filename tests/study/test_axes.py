"""Axes as they are written on the command line."""

import contextlib
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaleback.core.errors import SpecError
from scaleback.study.axes import Choice, Grid, Range, parse_axis, parse_value, split_values


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("images=2", Grid(field="images", values=(2,))),
        (" source.delta = 0.01, 0.1 ", Grid(field="source.delta", values=(0.01, 0.1))),
        ("images=10_000,1e2", Grid(field="images", values=(10_000, 100.0))),
        ("objective=classify,1p-frac", Grid(field="objective", values=("classify", "1p-frac"))),
        ("recipe.ema=null,0.99", Grid(field="recipe.ema", values=(None, 0.99))),
        ("recipe.compile=true,false", Grid(field="recipe.compile", values=(True, False))),
        ("a={kind: x, b: [1]},y", Grid(field="a", values=({"kind": "x", "b": [1]}, "y"))),
        ("a='1,2'", Grid(field="a", values=("1,2",))),
        ("a=b=c", Grid(field="a", values=("b=c",))),
        ("source.delta=lin:0..1", Range(field="source.delta", low=0.0, high=1.0)),
        ("source.delta=log:0.005..0.5", Range(field="source.delta", low=0.005, high=0.5, scale="log")),
        ("images=int:2..64", Range(field="images", low=2.0, high=64.0, whole=True)),
        ("images=logint:2..64", Range(field="images", low=2.0, high=64.0, scale="log", whole=True)),
        ("a=lin:-1.5..-0.5", Range(field="a", low=-1.5, high=-0.5)),
        ("recipe=choice:small,1p-frac", Choice(field="recipe", values=("small", "1p-frac"))),
    ],
)
def test_an_axis_is_read_from_text(text, axis):
    assert parse_axis(text) == axis


def test_the_values_of_an_axis_may_be_lists():
    axis = parse_axis("recipe.views.0.crop_scale=[0.3, 1.0],[0.5, 1.0]")
    assert [list(value) for value in axis.values] == [[0.3, 1.0], [0.5, 1.0]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "--axis: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW..HIGH; got ''"),
        ("images", "--axis: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW..HIGH; got 'images'"),
        ("=1,2", "--axis: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW..HIGH; got '=1,2'"),
        ("images= ", "--axis: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW..HIGH; got 'images= '"),
        (
            "a=lgo:1..2",
            "--axis a: unknown scale, known are choice, int, lin, log, logint; got 'lgo'; "
            "the nearest known name is 'log'",
        ),
        ("a=log:1", "--axis a: must be log:LOW..HIGH, two numbers; got 'log:1'"),
        ("a=log:x..2", "--axis a: must be log:LOW..HIGH, two numbers; got 'log:x..2'"),
        ("a=log:1..2..3", "--axis a: must be log:LOW..HIGH, two numbers; got 'log:1..2..3'"),
        ("a=lin:2..1", "--axis a.low: must be below the upper end 1; got 2.0"),
        ("a=lin:1..1", "--axis a.low: must be below the upper end 1; got 1.0"),
        ("a=log:0..1", "--axis a.low: must be positive on a logarithmic scale; got 0.0"),
        ("a=int:1.5..3", "--axis a.low: both ends must be whole numbers; got (1.5, 3.0)"),
        ("a=lin:nan..1", "--axis a.low: must be a finite number; got nan"),
        ("a=lin:0..inf", "--axis a.high: must be a finite number; got inf"),
        ("a=1,2,1", "--axis a.values: must differ from each other; got 1"),
        ("a=choice:x", "--axis a.values: Tuple should have at least 2 items after validation, not 1; got ('x',)"),
        ("a=[1", "--axis a: is not plain YAML ("),
    ],
)
def test_an_axis_of_another_form_is_refused_in_one_line(text, line):
    with pytest.raises(SpecError) as caught:
        parse_axis(text)
    (said,) = str(caught.value).splitlines()
    assert said.startswith(line)
    assert line.endswith("YAML (") or said == line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-3", -3),
        ("10_000", 10_000),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        (" true ", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1e999", "1e999"),
        ("1p-frac", "1p-frac"),
        ("", ""),
        ("a: b", "a: b"),
        ("2020-01-01", "2020-01-01"),
        ("[1, x]", [1, "x"]),
        ("{a: 1.5}", {"a": 1.5}),
        ('"1"', "1"),
        ("'true'", "true"),
    ],
)
def test_a_value_is_a_number_a_word_a_list_or_text(text, value):
    found = parse_value(text, "--set a")
    assert found == value
    assert type(found) is type(value)


@settings(deadline=None)
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_as_they_were_written(number):
    found = parse_value(repr(number), "--set a")
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("", [""]),
        ("a,,b", ["a", "", "b"]),
        ("[1,2],3", ["[1,2]", "3"]),
        ("{a: [1,2], b: 1},c", ["{a: [1,2], b: 1}", "c"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("'[',b", ["'['", "b"]),
        ("[1,2", ["[1,2"]),
        ('"it\'s",b', ['"it\'s"', "b"]),
    ],
)
def test_values_are_cut_at_commas_outside_brackets_and_quotes(text, parts):
    assert split_values(text) == parts


@settings(deadline=None)
@given(st.text(alphabet="a1,[]{}'\" ", max_size=30))
def test_cutting_loses_nothing(text):
    assert ",".join(split_values(text)) == text


ODD = "[]{}()'\"=:.,&*!#%@|>-?~_ \t\n0123456789abexntruflo²\u2028\x85"


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.text(max_size=30) | st.text(alphabet=ODD, max_size=30))
@example("[")
@example("{a: !!python/object/apply:os.system [x]}")
@example("[*nothing]")
@example("{[1]: 2}")
@example("log:1..2=")
@example("1" * 5_000)
@example("[1]" * 5_000)
def test_any_text_is_a_value_or_refused(text):
    for read in (lambda body: parse_value(body, "--set a"), parse_axis, lambda body: parse_axis(f"field={body}")):
        with contextlib.suppress(SpecError):
            read(text)


# One letter off, and PyYAML answers with another exception, a date, an endless list, or one too deep to print.
@pytest.mark.parametrize(
    "text",
    [
        "[2020-13-45]",
        "[2020-01-01]",
        "[!!timestamp x]",
        "[0x_]",
        "[&a [1], *a]",
        "[&a [*a]]",
        "[" * 500 + "]" * 500,
        "[.nan]",
    ],
)
def test_yaml_that_is_no_plain_value_is_refused(text):
    with pytest.raises(SpecError, match=r"^--set a: [^\n]+$"):
        parse_value(text, "--set a")


def test_a_value_too_long_is_refused():
    with pytest.raises(SpecError, match=r"^--set a: a value must have at most 10,000 characters; got 10,001$"):
        parse_value("a" * 10_001, "--set a")


def test_the_ends_of_whole_ranges_are_integers():
    low, high = parse_axis("images=logint:2..64").inside()
    assert (low, high) == (2, 64)
    assert type(low) is type(high) is int
    assert all(
        math.isclose(end, value) for end, value in zip(parse_axis("a=log:0.1..1").inside(), (0.1, 1), strict=True)
    )
