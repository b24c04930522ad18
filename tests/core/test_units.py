import pytest

from scaleback.core import units


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (9_999, "9,999"), (12_800_000, "12.8 M"), (1.9e18, "1.9 E"), (-52_000, "-52 k")]
)
def test_counts(value, text):
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")]
)
def test_sizes(value, text):
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.42, "0.42 s"), (59.7, "1 min 0 s"), (95, "1 min 35 s"), (7_260, "2 h 1 min")]
)
def test_durations(value, text):
    assert units.duration(value) == text
