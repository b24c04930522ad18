"""Generations of a generator: what each learns from, and noise of its own."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scaleback.adapt.run import learn
from scaleback.core.errors import SpecError
from scaleback.core.store import Store
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.learnt import waves
from scaleback.sources.mixture import Mixture
from scaleback.sources.named import Digits
from scaleback.sources.population import Population, missing_blocks, render_block

REAL, SEED = 20, 3
INDEX = np.arange(REAL)


def taken(source, images):
    """How many images of each source the first of a mixture are, one by one."""
    if not isinstance(source, Mixture):
        return {source.fingerprint: images}
    of_second = [source.of_second(n + 1) - source.of_second(n) for n in range(images)]
    return taken(source.first, images - sum(of_second)) | taken(source.second, sum(of_second))


@pytest.fixture
def spec(tmp_path):
    return Diffusion.example(tmp_path)


def test_replace_learns_from_the_generation_before_and_accumulate_from_all(spec):
    later = {name: spec.replace({"generation": 4, "succession": name}) for name in ("replace", "accumulate")}
    before = [spec.replace({"generation": g, "succession": "accumulate"}) for g in (1, 2, 3)]
    assert later["replace"].given == (spec.replace({"generation": 3}), REAL)
    given = later["accumulate"].given
    assert given.images == 4 * REAL
    assert taken(given.source, given.images) == {one.fingerprint: REAL for one in (Digits(), *before)}
    assert given.source.classes(given.images) == 10
    assert spec.given == (Digits(), REAL)


def test_stages_come_once_and_in_order(spec):
    for name in ("replace", "accumulate"):
        stages = spec.replace({"generation": 4, "succession": name}).learnt(SEED)
        assert [type(stage).__name__ for stage in stages] == ["Trained", *["Adapted"] * 4]
        assert [stage.images for stage in stages[1:]] == [REAL * (1 if name == "replace" else g) for g in (1, 2, 3, 4)]
        assert stages[1] == spec.learnt(SEED)[1]  # the first generation is that of a source without generations
        for place, stage in enumerate(stages):
            inner = stage.population.source.learnt(stage.population.seed)
            assert {one.address for one in inner} <= {one.address for one in stages[:place]}


def test_the_first_generation_keeps_its_address_and_its_seed(spec):
    assert {"generation", "succession", "revision"}.isdisjoint(spec.canonical())
    assert spec.drawing_seed(SEED) == SEED
    by_hand = spec.model_copy(update={"real": spec})
    assert by_hand.canonical()["revision"] == 2
    assert by_hand.rounds == 2 == spec.replace({"generation": 2}).rounds
    mixed = Mixture(first=Digits(), second=spec, share=0.5, labels="shared")
    assert spec.model_copy(update={"real": mixed}).rounds == 2
    again = [spec.replace({"generation": g}).drawing_seed(SEED) for g in (1, 2, 3)]
    assert len(set(again)) == 3
    assert all(0 <= seed < 2**63 for seed in again)


def test_rounds_have_noise_of_their_own(spec, tmp_path):
    """A generator that learns nothing from what it is given draws the same image again of the same noise."""
    store = Store(tmp_path / "store")
    plain = spec.replace({"adaptation": None, "guidance": "none", "strength": 1.0})
    learn(plain, SEED, store)
    by_hand = plain.model_copy(update={"real": plain})
    rounds = [plain, plain.replace({"generation": 2}), plain.replace({"generation": 3}), by_hand]
    drawn = [one.open_with(SEED, store)(INDEX).image_BHWC.reshape(REAL, -1).astype(float) for one in rounds]
    assert (drawn[1] == drawn[3]).all()  # by hand or by number, it is the second round
    for first, second in itertools.combinations(drawn[:3], 2):
        distance = cdist(first, second)
        assert np.diag(distance).min() > 0
        assert np.diag(distance).mean() == pytest.approx(distance.mean(), rel=0.15)


@pytest.mark.parametrize("succession", ["replace", "accumulate"])
def test_later_generations_learn_and_draw_with_the_labels_of_those_before(spec, tmp_path, succession):
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    third = spec.replace({"generation": 3, "succession": succession})
    learn(third, SEED, store)
    made = third.open_with(SEED, store)(INDEX)
    given = Population.of(third.given.source, SEED)
    assert missing_blocks(store, given, third.given.images) == []
    label = given.source.open_with(given.seed, store)(np.arange(third.given.images)).label_B
    assert (made.label_B == label[:REAL]).all()
    if succession == "replace":
        assert (label == Digits().open(SEED)(INDEX).label_B).all()
    else:
        assert sorted(label) == sorted(np.tile(Digits().open(SEED)(INDEX).label_B, 3))
    # What it learnt from is read where it lies, and drawn where it does not.
    for name in store.files(""):
        if not name.startswith(given.address):
            other.put(name, store.get(name))
    again = third.open_with(SEED, other)(INDEX)
    assert np.abs(again.image_BHWC.astype(int) - made.image_BHWC).max() <= third.tolerance
    assert (again.label_B == made.label_B).all()
    for block in missing_blocks(store, Population.of(third, SEED), REAL):
        render_block(store, Population.of(third, SEED), block)


def test_classes_keep_their_names_over_generations(spec, tmp_path):
    named = Mixture(first=Digits(), second=Digits(fold=(0, 2)), share=0.5, labels="shared").open(0)
    assert named.record.get("class_names") == Digits().open(0).record.get("class_names")
    assert "class_names" not in Mixture(first=Digits(), second=Digits(), share=0.5).open(0).record


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"generation": 0}, "generation: must be greater than or equal to 1; got 0"),
        ({"generation": 101}, "generation: must be less than or equal to 100; got 101"),
        ({"succession": "add"}, "succession: unknown value, known are accumulate, replace; got 'add'"),
    ],
)
def test_what_is_no_generation_is_refused_in_one_line(spec, changes, line):
    with pytest.raises(SpecError) as caught:
        spec.replace(changes)
    assert str(caught.value) == line


def test_stages_learn_in_waves_each_once_after_what_it_needs(tmp_path):
    stages = Diffusion.example(tmp_path).learnt(3)
    assert waves([*reversed(stages), *stages]) == [[stage] for stage in stages]
    assert waves(stages[1:]) == [stages[1:]]  # what it needs is there already
    assert waves([]) == []
