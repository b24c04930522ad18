"""How a refusal is worded, and that every error reaches the driver from a worker process."""

import pickle

import pytest

from scaleback.core import errors


def tree(cls):
    return [cls, *(below for child in cls.__subclasses__() for below in tree(child))]


@pytest.mark.parametrize("error", tree(errors.ScalebackError))
def test_errors_survive_the_way_from_a_worker(error):
    back = pickle.loads(pickle.dumps(error("render/x: is missing")))
    assert type(back) is error
    assert str(back) == "render/x: is missing"


def test_a_refusal_survives_the_way_from_a_worker():
    back = pickle.loads(pickle.dumps(errors.Refusal("views", "must hold one")))
    assert (back.field, str(back)) == ("views", "must hold one")


def test_what_the_user_can_cure_is_told_from_what_a_run_met():
    assert issubclass(errors.SpecError, errors.InputError)
    assert issubclass(errors.DataError, errors.InputError)
    assert not issubclass(errors.DivergedError, errors.InputError)
    assert not issubclass(errors.IntegrityError, errors.InputError)


def test_an_unknown_name_lists_few_known_names_and_counts_many():
    assert errors.unknown("kind", "tre", ["tree", "bush"]) == (
        "unknown kind, known are bush, tree; got 'tre'; the nearest known name is 'tree'"
    )
    many = [f"model_{number}" for number in range(errors.LISTED_NAMES + 1)]
    assert errors.unknown("model", "zzz", many) == f"unknown model, {len(many)} are known; got 'zzz'"


def test_a_value_is_shown_on_one_short_line():
    assert errors.short({"a": "x\ny"}) == r"{'a': 'x\ny'}"
    text = errors.short("x" * 500)
    assert len(text) == 80
    assert text.endswith("...")
    assert "\n" not in errors.short(type("Odd", (), {"__repr__": lambda self: "two\nlines"})())
