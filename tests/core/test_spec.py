"""Identity: what makes two specs the same, and how a wrong one is refused."""

import hashlib
import json
import pickle
import random
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from scaleback.core.errors import Refusal, SpecError, refusal
from scaleback.core.spec import Spec, presets, variants


class Square(Spec):
    kind: Literal["square"] = "square"
    side: float
    tags: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _possible(self):
        if self.side > 10:
            raise Refusal("side", refusal("must be at most 10", self.side))
        return self


class Disc(Spec):
    kind: Literal["disc"] = "disc"
    radius: int = 3
    mode: Literal["filled", "outline"] = "filled"


Shape = variants({"square": Square, "disc": Disc})
PRESETS = {"small": Square(side=1.0)}


class Picture(Spec):
    shape: Shape
    more: tuple[Shape, ...] = ()
    count: Annotated[int, Field(ge=1)] = 1
    size: Annotated[Square, presets("preset", lambda: PRESETS)] = Square(side=3.0)


class Named(Spec):
    name: str


class Revised(Spec):
    revision = 2
    radius: int = 3


def test_a_default_written_out_is_the_same_spec():
    assert Disc(radius=3, mode="filled").fingerprint == Disc().fingerprint
    assert Disc(radius=4).fingerprint != Disc().fingerprint


def test_canonical_leaves_out_defaults_and_keeps_kinds():
    assert Picture(shape=Disc()).canonical() == {"shape": {"kind": "disc"}}


@given(side=st.floats(-9, 9), tags=st.lists(st.integers()), radius=st.integers(), mode=st.sampled_from(["é", "filled"]))
def test_the_fingerprint_is_of_the_canonical_json_however_it_is_put_together(side, tags, radius, mode):
    shape, more = Square(side=side, tags=tuple(tags)), (Disc(radius=radius), Square(side=1.5))
    picture = Picture(shape=shape, more=more, size=shape)
    text = json.dumps(picture.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert picture.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert pickle.loads(pickle.dumps(picture)).__dict__.keys() == type(picture).model_fields.keys()
    assert (
        Named(name=mode).fingerprint
        == hashlib.sha256(json.dumps({"name": mode}, separators=(",", ":")).encode()).hexdigest()
    )


def test_copies_that_share_a_change_share_its_member():
    made = {}
    copies = [Picture(shape=Disc()).replace({"shape.radius": 5, "count": count}, made) for count in (1, 2)]
    assert copies[0].shape is copies[1].shape
    assert copies[1] == Picture(shape=Disc(radius=5), count=2)


def test_a_bumped_revision_is_another_identity():
    assert Revised().canonical() == {"revision": 2}


@given(
    side=st.floats(0.1, 10, allow_nan=False),
    tags=st.lists(st.integers(-5, 5), max_size=4),
    radius=st.integers(0, 9),
    spelled=st.booleans(),
    shuffle=st.randoms(use_true_random=False),
)
def test_key_order_number_type_and_spelled_defaults_do_not_matter(side, tags, radius, spelled, shuffle):
    whole = float(round(side)) or 1.0
    plain = {"shape": {"kind": "square", "side": whole, "tags": tags}, "more": [{"kind": "disc", "radius": radius}]}
    other = json.loads(json.dumps(plain))
    other["shape"]["side"] = int(whole)
    if spelled:
        other |= {"count": 1, "size": {"kind": "square", "side": 3, "tags": []}}
        other["more"][0]["mode"] = "filled"
    keys = list(other)
    shuffle.shuffle(keys)
    assert Picture.parse({key: other[key] for key in keys}).fingerprint == Picture.parse(plain).fingerprint


def test_every_change_of_a_field_changes_the_fingerprint():
    rng = random.Random(0)
    seen = {}
    for _ in range(300):
        plain = {
            "shape": {"kind": "square", "side": rng.choice([1, 2.5, 3]), "tags": [rng.randint(0, 3)]},
            "count": rng.randint(1, 4),
        }
        spec = Picture.parse(plain)
        key = json.dumps(plain, sort_keys=True).replace("1.0", "1")
        assert seen.setdefault(spec.fingerprint, key) == key


def test_plain_data_parse_back_to_the_same_spec():
    spec = Picture(shape=Square(side=2, tags=(1, 2)), more=(Disc(), Square(side=1)))
    assert Picture.parse(json.loads(json.dumps(spec.plain()))) == spec


def test_specs_are_frozen():
    with pytest.raises(ValidationError):
        Disc().radius = 4


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        (
            {"shape": "disk"},
            "shape: unknown kind, known are disc, square; got 'disk'; the nearest known name is 'disc'",
        ),
        ({"shape": {"side": 2}}, "shape: needs a kind"),
        ({"shape": {"kind": "square"}}, "shape.side: is required"),
        ({"shape": {"kind": "square", "side": "2"}}, "shape.side: must be a number; got '2'"),
        ({"shape": {"kind": "square", "side": float("nan")}}, "shape.side: must be a finite number; got nan"),
        ({"shape": {"kind": "square", "side": 11}}, "shape.side: must be at most 10; got 11.0"),
        ({"shape": {"kind": "disc", "radius": 1.0}}, "shape.radius: must be an integer; got 1.0"),
        (
            {"shape": {"kind": "disc", "raduis": 1}},
            "shape.raduis: unknown field, known are kind, mode, radius; got 'raduis'; "
            "the nearest known name is 'radius'",
        ),
        (
            {"shape": {"kind": "disc", "mode": "filed"}},
            "shape.mode: unknown value, known are filled, outline; got 'filed'; the nearest known name is 'filled'",
        ),
        ({"shape": "disc", "count": 0}, "count: must be greater than or equal to 1; got 0"),
        (
            {"shape": "disc", "more": ["disc", {"kind": "square", "side": []}]},
            "more.square.side: must be a number; got []",
        ),
        (
            {"shape": "disc", "size": "smal"},
            "size: unknown preset, known are small; got 'smal'; the nearest known name is 'small'",
        ),
        ({"shape": "disc", "colour": 1}, "colour: unknown field, known are count, more, shape, size; got 'colour'"),
    ],
)
def test_a_fault_is_one_line_with_path_rule_value_and_nearest_name(plain, line):
    with pytest.raises(SpecError) as caught:
        Picture.parse(plain)
    assert str(caught.value).replace("()", "[]") == line


def test_two_faults_are_two_lines():
    with pytest.raises(SpecError) as caught:
        Picture.parse({"shape": {"kind": "square", "side": "x"}, "count": -1})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["shape.side", "count"]


def test_replace_sets_dotted_fields_and_members_by_kind():
    spec = Picture(shape=Square(side=2), more=(Disc(), Square(side=1)))
    changed = spec.replace({"shape.side": 4, "more.disc.radius": 7, "more.1.side": 2, "size": "small"})
    assert changed == Picture(shape=Square(side=4), more=(Disc(radius=7), Square(side=2)), size=Square(side=1))


def test_setting_another_kind_starts_afresh():
    spec = Picture(shape=Square(side=2))
    assert spec.replace({"shape.kind": "disc", "shape.radius": 5}).shape == Disc(radius=5)
    assert spec.replace({"shape": "disc"}).shape == Disc()
    assert spec.replace({"shape.kind": "square"}).shape == Square(side=2)


def test_a_preset_can_be_changed():
    assert Picture.parse({"shape": "disc", "size": {"preset": "small", "tags": [4]}}).size == Square(side=1, tags=(4,))


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"shape.side.deep": 1}, "shape.side: is a value and has no fields"),
        ({"more.disk.radius": 1}, "more.disk: unknown member"),
        ({"shap.side": 1}, "shap: unknown field"),
    ],
)
def test_replace_refuses_paths_that_are_not_there(changes, start):
    with pytest.raises(SpecError, match=start.replace(".", r"\.")):
        Picture(shape=Square(side=2), more=(Disc(),)).replace(changes)


def test_a_changed_copy_has_its_own_fingerprint():
    square = Square(side=2)
    assert square.fingerprint
    changed = square.model_copy(update={"side": 3.0})
    assert changed == Square(side=3)
    assert changed.fingerprint == Square(side=3).fingerprint


class Frame(Spec):
    inside: Revised = Revised()


def test_a_bumped_revision_of_a_default_member_is_another_identity():
    assert Frame().canonical() == {"inside": {"revision": 2}}


def test_what_has_no_stable_form_is_refused():
    class Loose(Spec):
        anything: object

    for value in ({1, 2}, b"bytes", object()):
        with pytest.raises(SpecError, match="a spec may not hold"):
            assert Loose(anything=value).fingerprint
