"""Mixtures: exact totals, prefixes that keep the ratio, labels that do not run into each other."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaleback.core.errors import SpecError
from scaleback.sources.base import UNLABELLED
from scaleback.sources.mixture import Mixture
from scaleback.sources.named import Digits
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.tables import Arrays

FRACTAL = OnePFrac(size_px=16, pad_px=4, points=500, min_fill=0.0)
SHARES = st.integers(0, 1_000).map(lambda share: share / 1_000)


def stored(folder, name, images, classes, size=16, value=9):
    file = folder / f"{name}.npz"
    labels = {} if classes is None else {"y": np.arange(images) % classes}
    np.savez(file, x=np.full((images, size, size), value, np.uint8), **labels)
    return Arrays(path=str(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mixtures")


@pytest.fixture(scope="module")
def photos(folder):
    return stored(folder, "photos", images=50, classes=3)


@given(share=SHARES, images=st.integers(0, 100_000))
@example(share=0.29, images=100)  # 0.29 * 100 is 28.999999999999996
@settings(deadline=None, max_examples=200)
def test_the_second_part_is_the_exact_share_rounded_down(share, images):
    mixture = Mixture.model_construct(share=share)
    assert mixture.of_second(images) == floor(Fraction(str(share)) * images)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 1 / 3, 0.5, 0.7, 0.99, 1.0])
def test_every_prefix_keeps_the_ratio_within_one_image(photos, share):
    mixture = Mixture(first=FRACTAL, second=photos, share=share)
    images = min(mixture.available() or 60, 60)
    samples = mixture.open(0)(np.arange(images))
    part = samples.facts["part"]
    for length in range(1, images + 1):
        assert abs(part[:length].sum() - share * length) < 1
        assert part[:length].sum() == mixture.of_second(length)
    for number in (0, 1):
        assert samples.facts["place"][part == number].tolist() == list(range((part == number).sum()))


def test_each_image_comes_from_its_part(photos):
    mixture = Mixture(first=FRACTAL, second=photos, share=0.4)
    samples = mixture.open(7)(np.arange(20))
    part = samples.facts["part"]
    assert part.sum() == 8
    assert (samples.image_BHWC[part == 1] == 9).all()
    assert (samples.image_BHWC[part == 0] == FRACTAL.open(7)(np.arange(12)).image_BHWC).all()


def test_classes_of_a_part_that_grows_come_after_those_of_one_that_does_not(photos):
    mixture = Mixture(first=FRACTAL, second=photos, share=0.25)
    samples = mixture.open(0)(np.arange(20))
    part, label = samples.facts["part"], samples.label_B
    assert set(label[part == 1]) == {0, 1, 2}
    assert label[part == 0].tolist() == list(range(3, 18))
    assert [mixture.classes(images) for images in (4, 20)] == [3 + 3, 3 + 15]
    assert label.max() < mixture.classes(20)
    turned = Mixture(first=photos, second=FRACTAL, share=0.75)
    part, label = (samples := turned.open(0)(np.arange(20))).facts["part"], samples.label_B
    assert set(label[part == 0]) == {0, 1, 2}
    assert label[part == 1].tolist() == list(range(3, 18))
    assert turned.classes(20) == 18


def test_classes_of_two_data_sets_are_kept_apart(folder):
    mixture = Mixture(first=Digits(), second=stored(folder, "few", 40, 4, size=8), share=0.5)
    samples = mixture.open(0)(np.arange(40))
    part, label = samples.facts["part"], samples.label_B
    assert set(label[part == 0]) == set(range(10))
    assert set(label[part == 1]) == {10, 11, 12, 13}
    assert mixture.classes(40) == 14


def test_shared_labels_mean_the_same_class_in_both(photos, folder):
    mixture = Mixture(first=photos, second=stored(folder, "five", 50, 5), share=0.5, labels="shared")
    samples = mixture.open(0)(np.arange(30))
    assert mixture.classes(30) == 5
    assert set(samples.label_B[samples.facts["part"] == 0]) == {0, 1, 2}
    assert set(samples.label_B[samples.facts["part"] == 1]) == {0, 1, 2, 3, 4}


def test_images_without_labels_stay_without(photos, folder):
    mixture = Mixture(first=photos, second=stored(folder, "bare", 50, None), share=0.5)
    samples = mixture.open(0)(np.arange(20))
    assert mixture.classes(20) is None
    assert (samples.label_B[samples.facts["part"] == 1] == UNLABELLED).all()


@given(first=st.integers(1, 12), second=st.integers(1, 12), share=st.integers(0, 20).map(lambda share: share / 20))
@settings(deadline=None, max_examples=60)
def test_a_mixture_has_as_many_images_as_its_parts_allow(first, second, share):
    mixture = Mixture.model_construct(first=Counted(first), second=Counted(second), share=share)
    fits = [
        total
        for total in range(300)
        if mixture.of_second(total) <= second and total - mixture.of_second(total) <= first
    ]
    assert mixture.available() == max(fits)


class Counted:
    """Stands for a source of so many images."""

    def __init__(self, images):
        self.available = lambda: images


def test_a_mixture_with_something_endless_ends_with_the_other_part(photos):
    assert Mixture(first=FRACTAL, second=photos, share=0.5).available() == 2 * photos.available() + 1
    assert Mixture(first=FRACTAL, second=photos, share=0.0).available() is None
    for share in (1e-15, 1e-320):
        assert Mixture(first=FRACTAL, second=photos, share=share).available() >= 10**12


def test_mixtures_can_be_mixed(photos):
    inner = Mixture(first=FRACTAL, second=photos, share=0.5)
    outer = Mixture(first=inner, second=photos, share=0.5)
    part = outer.open(0)(np.arange(40)).facts["part"]
    assert part.sum() == 20
    assert outer.classes(40) == inner.classes(inner.available()) + 3


def test_the_seed_does_not_matter_if_it_matters_to_neither(photos):
    test = photos.model_copy(update={"split": "test"})
    assert Mixture(first=test, second=test, share=0.5).population_seed(5) == 0
    assert Mixture(first=FRACTAL, second=test, share=0.5).population_seed(5) == 5


def test_parts_of_unequal_shape_are_refused(photos):
    with pytest.raises(SpecError, match=r"^second: must give images of shape \(8, 8, 1\), .* got \(16, 16, 1\)$"):
        Mixture.parse({"first": "digits", "second": photos.plain(), "share": 0.5})


def test_two_parts_whose_classes_grow_cannot_be_kept_apart():
    with pytest.raises(SpecError, match=r"^labels: must be shared"):
        Mixture.parse({"first": FRACTAL.plain(), "second": FRACTAL.plain(), "share": 0.5})
    shared = Mixture(first=FRACTAL, second=FRACTAL, share=0.5, labels="shared")
    assert shared.classes(10) == 5
