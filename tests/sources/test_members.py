"""Who is made from what: coins, canaries, and images of the pool as they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core.errors import InputError, SpecError
from scaleback.sources.members import Members, memberships, mislabelled_canaries
from scaleback.sources.named import Digits

POOL = Members(real=Digits(fold=(0, 2)), images=80, models=6, draw=3)


def opened(source, seed=0):
    return source.open(source.population_seed(seed))(np.arange(source.available()))


@given(samples=st.integers(1, 60), models=st.integers(2, 20), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_each_sample_is_in_half_of_the_models_however_many_samples_there_are(samples, models, seed):
    member = memberships(samples, 2 * models, seed)
    assert member.shape == (2 * models, samples)
    assert (member.sum(0) == models).all()
    np.testing.assert_array_equal(memberships(samples + 7, 2 * models, seed)[:, :samples], member)


def test_memberships_are_those_of_coins():
    member = memberships(4_000, 8, 1)
    assert member.mean(1) == pytest.approx(np.full(8, 0.5), abs=0.03)
    # Two models share 3/7 of a model's samples: 4 of 8 without putting back.
    shared = (member[0] & member[3]).sum() / member[0].sum()
    assert shared == pytest.approx(3 / 7, abs=0.04)
    assert (memberships(4_000, 8, 2) != member).any()


@given(seed=st.integers(0, 999), count=st.integers(1, 200), classes=st.integers(2, 9), share=st.floats(0.01, 1))
@settings(deadline=None, max_examples=40)
def test_canaries_are_wrong_and_nested(seed, count, classes, share):
    label = np.random.default_rng(seed).integers(0, classes, count)
    index, wrong = mislabelled_canaries(label, share, classes, seed)
    assert len(index) == max(1, round(share * count)) == len(np.unique(index))
    assert (wrong != label[index]).all()
    assert ((wrong >= 0) & (wrong < classes)).all()
    fewer, its = mislabelled_canaries(label, share / 2, classes, seed)
    kept = dict(zip(index.tolist(), wrong.tolist(), strict=True))
    assert all(kept[at] == value for at, value in zip(fewer.tolist(), its.tolist(), strict=True))


def test_every_wrong_label_is_as_likely():
    label = np.full(6_000, 2)
    _, wrong = mislabelled_canaries(label, 1.0, 4, 5)
    assert np.bincount(wrong, minlength=4) / 6_000 == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.02)


def test_the_pool_is_the_first_images_of_the_source():
    found, whole = opened(POOL), POOL.real.open(3)(np.arange(80))
    place = found.facts["place"]
    assert sorted(place) == list(range(80))
    assert (found.image_BHWC == whole.image_BHWC[place]).all()
    assert (found.label_B == whole.label_B[place]).all()


@pytest.mark.parametrize("model", [0, 5])
def test_a_model_has_its_members_and_no_others(model):
    mine = POOL.model_copy(update={"model": model})
    found, whole = opened(mine, 7), POOL.real.open(3)(np.arange(80))
    inside = np.flatnonzero(memberships(80, 6, 3)[model])
    assert mine.available() == len(inside)
    of_pool = mine.places()[found.facts["place"]]
    assert sorted(of_pool) == inside.tolist()
    assert (found.image_BHWC == whole.image_BHWC[of_pool]).all()


def test_a_member_is_called_as_the_image_that_it_is():
    mine = POOL.model_copy(update={"model": 1})
    whole, own = POOL.real.open(3)(np.arange(80)), opened(mine, 7)
    of_pool = mine.places()[own.facts["place"]]
    assert mine.image_names(7, len(of_pool)) == [(str(place),) for place in whole.facts["place"][of_pool]]


def test_canaries_have_wrong_labels_in_every_model():
    wrong = POOL.model_copy(update={"canaries": 0.25})
    index, label = mislabelled_canaries(POOL.labels(), 0.25, 10, 3)
    assert (wrong.labels()[index] == label).all()
    assert (wrong.labels() != POOL.labels()).sum() == len(index) == 20
    one = wrong.model_copy(update={"model": 2})
    assert (one.labels() == wrong.labels()[one.places()]).all()


def test_the_test_split_is_the_source_s():
    assert POOL.as_test() == Digits(fold=(0, 2), split="test")
    assert POOL.model_copy(update={"class_limit": 3}).as_test().class_count() == 3


def test_classes_under_a_limit_keep_their_new_labels():
    found, whole = opened(POOL.model_copy(update={"class_limit": 3})), POOL.real.open(3)(np.arange(80))
    chosen = POOL.model_copy(update={"class_limit": 3}).chosen_classes()
    assert (chosen[found.label_B] == whole.label_B[found.facts["place"]]).all()
    assert set(found.label_B) == {0, 1, 2}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"models": 5}, "models: must be even; got 5"),
        ({"model": 6}, "model: must be below the 6 models; got 6"),
        ({"images": 800}, "images: must be at most the 401 there are; got 800"),
        ({"real": {"kind": "digits", "split": "test"}}, "real.split: must be train; got 'test'"),
        ({"split": "test"}, "split: must be train; got 'test'"),
        ({"fold": [0, 2]}, "fold: must be left out; say fold of real"),
        ({"view": "binary"}, "view: must be left out; say view of real"),
        ({"real.class_limit": 3}, "real.class_limit: must be left out; say class_limit of the members"),
    ],
)
def test_impossible_members_are_refused(changes, line):
    with pytest.raises(SpecError) as caught:
        POOL.replace(changes)
    assert str(caught.value).startswith(line)


def test_odd_numbers_of_models_have_no_halves():
    with pytest.raises(InputError, match="models must be an even number"):
        memberships(10, 5, 0)
