"""YAML from users: plain data come back as they were, and whatever else there is in YAML is refused in one line."""

import contextlib
import math

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaleback.core import plain
from scaleback.core.errors import SpecError
from scaleback.core.plain import beside, exists, is_file, parse_yaml, read_file, to_yaml

NUMBERS = st.integers(-(2**200), 2**200) | st.floats(allow_nan=False, allow_infinity=False)
DATA = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def refused(text):
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "x.yaml")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("x.yaml: ")
    assert len(line) < 300
    return line


@settings(deadline=None)
@given(DATA)
@example({"1e5": "-1.e+3", "a": ["1e5", 1e5, "\x85"]})
def test_plain_data_come_back_as_they_were(data):
    assert parse_yaml(to_yaml(data), "x.yaml") == data


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.1e-2", "+1.e-3", "[1e-3]"])
def test_a_number_with_an_exponent_is_a_number(text):
    assert np.ravel(parse_yaml(text, "x.yaml")).tolist() == [0.001]


def test_nothing_at_all_is_nothing():
    assert parse_yaml("", "x.yaml") is None
    assert parse_yaml("# a remark\n", "x.yaml") is None


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [touch owned]",
        "!!python/name:os.system",
        "!!python/tuple [1]",
        "!secret b",
        "! b",
        "!!str 1",
        "!!int x",
        "!!timestamp x",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "[1, {a: !!pairs [b: 1]}]",
        "!!str a: 1",
    ],
)
def test_tags_are_refused_and_never_followed(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(text) == "x.yaml: is not plain YAML ('tags are not allowed')"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["[&a [1], *a]", "&a [*a]", "a: &a {b: 1}\nc:\n  <<: *a", "*nowhere", "{? &a x : *a}"],
)
def test_aliases_are_refused(text):
    assert refused(text) == "x.yaml: is not plain YAML ('aliases are not allowed')"


def test_a_bomb_of_aliases_is_refused_at_its_first():
    levels = [
        f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert "aliases" in refused("\n".join(["a: &a [x, x]", *levels]))


@pytest.mark.parametrize(
    "text", ["2020-01-01", "[2020-01-01 10:00:00]", "{a: 2020-01-01T10:00:00Z}", "2020-01-01: a", "b: [[2001-12-14]]"]
)
def test_dates_are_refused(text):
    assert "must be numbers, strings, lists and mappings; got '20" in refused(text)


@pytest.mark.parametrize("text", [".nan", "[.inf]", "{a: -.inf}", "{.nan: 1}", "1.0e+400", "[[-1.0e+999]]"])
def test_numbers_that_are_not_finite_are_refused(text):
    assert "numbers must be finite; got " in refused(text)


HEX, SIXTIES = "0x" + "f" * 5_000, "1" + ":59" * 5_000


@pytest.mark.parametrize("text", ["9" * 5_000, "-" + "9" * 5_000, HEX, "0b" + "1" * 5_000, SIXTIES, f"{SIXTIES}.5"])
@pytest.mark.parametrize("form", ["{}", "[{}]", "{{a: {}}}"])
def test_numbers_that_no_float_can_hold_are_refused(text, form):
    refused(form.format(text))


def test_the_largest_number_is_that_of_a_float():
    largest = int(math.ldexp(2 - 2**-52, 1023))
    assert parse_yaml(str(largest), "x.yaml") == largest
    assert refused(str(largest + 1)) == "x.yaml: numbers must be at most 1.8e+308; got 1,024 bits"
    assert refused(f"-{largest + 1}") == "x.yaml: numbers must be at most 1.8e+308; got 1,024 bits"


@pytest.mark.parametrize(
    "text",
    ["2020-13-45", "2020-01-01T25:00:00", "2020-01-01T10:00:00+99:00", "0x_", "0b_", "-0x_", "{[1]: 2}", "{{a: 1}: 2}"],
)
def test_what_breaks_the_parser_is_refused(text):
    assert "is not plain YAML (" in refused(text)


@pytest.mark.parametrize("levels", [plain.DEEPEST + 1, 500, 20_000])
@pytest.mark.parametrize("form", ["[]", "{}", "- "])
def test_what_is_nested_deeply_is_refused(levels, form):
    refused({"[]": "[" * levels + "]" * levels, "{}": "{a: " * levels + "1" + "}" * levels, "- ": "- " * levels}[form])


def test_what_is_nested_as_deep_as_allowed_is_read():
    data = parse_yaml("[" * plain.DEEPEST + "]" * plain.DEEPEST, "x.yaml")
    for _ in range(plain.DEEPEST - 1):
        (data,) = data
    assert data == []


ODD = "[]{}()'\"=:.,&*!#%@|>-?~_ \t\n0123456789abexntruflo+²\u2028\x85\x00\ufeff"


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.text(max_size=30) | st.text(alphabet=ODD, max_size=30))
@example("=")
@example("<<: 1")
@example("<<: [1]")
@example("%YAML 9.9\n---\na")
@example("%TAG ! tag:\n--- !x")
@example("a\n---\nb")
@example("? a")
@example("\ud800")
def test_any_text_is_plain_data_or_refused_in_one_line(text):
    with contextlib.suppress(SpecError):
        yaml.safe_dump(parse_yaml(text, "x.yaml"))
        return
    refused(text)


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_small_file_is_read_and_others_are_refused(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("a: é", encoding="utf-8")
    assert read_file(file, "study") == "a: é"
    file.write_bytes(b"#" * plain.LARGEST_FILE_BYTES)
    assert len(read_file(file, "study")) == plain.LARGEST_FILE_BYTES
    for act, line in (
        (lambda: file.write_bytes(b"#" * (plain.LARGEST_FILE_BYTES + 1)), "must be at most 1,048,576 bytes"),
        (lambda: file.write_bytes("é".encode("latin-1")), "must be text in UTF-8"),
        (file.unlink, "cannot be read (No such file or directory)"),
        (file.mkdir, "cannot be read (Is a directory)"),
    ):
        act()
        with pytest.raises(SpecError) as caught:
            read_file(file, "study")
        assert str(caught.value) == f"study: {file} {line}"


def test_names_that_no_file_can_have_are_just_not_there(tmp_path):
    (tmp_path / "file").touch()
    assert is_file(tmp_path / "file")
    assert exists(tmp_path / "file")
    assert exists(tmp_path)
    assert not is_file(tmp_path)
    assert beside(tmp_path / "other") == [str(tmp_path / "file")]
    for name in ("l" * 300, "a\0b", "file/below", "nowhere/below"):
        assert not is_file(tmp_path / name)
        assert not exists(tmp_path / name)
        assert beside(tmp_path / name / "below") == []
