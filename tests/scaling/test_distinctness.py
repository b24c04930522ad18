"""Distances between classes, against two nested loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.scaling import distinctness as module
from scaleback.scaling.distinctness import distinctness


def by_hand(images, labels):
    """Between, within, margins: straight from the definitions."""
    far, near, nearest = [], [], []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        others = []
        for j, (other, its) in enumerate(zip(images, labels, strict=True)):
            if i == j:
                continue
            pairs = zip(image.ravel().tolist(), other.ravel().tolist(), strict=True)
            apart = sum(abs(a - b) for a, b in pairs) / image.size
            same = label == its and label >= 0
            (near if same else far).append(apart)
            if not same:
                others.append(apart)
        if others:
            nearest.append(min(others))
    between = sum(far) / len(far) if far else None
    within = sum(near) / len(near) if near else None
    margins = [value / between for value in nearest] if between else None
    return between, within, margins


@given(seed=st.integers(0, 10_000), count=st.integers(1, 9), classes=st.integers(1, 4), block=st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_distances_are_those_of_two_nested_loops_in_blocks_of_any_size(seed, count, classes, block):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 3, 4, rng.integers(1, 4)), np.uint8)
    labels = rng.integers(-1, classes, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_VALUES", block)
        found = distinctness(images, labels)
    between, within, margins = by_hand(images, labels)
    assert found.images == count
    assert found.between == (None if between is None else pytest.approx(between))
    assert found.within == (None if within is None else pytest.approx(within))
    assert found.margin == (None if margins is None else pytest.approx(sum(margins) / count))
    assert found.least_margin == (None if margins is None else pytest.approx(min(margins)))


def test_classes_that_are_alike_have_no_margin():
    found = distinctness(np.full((3, 4, 4, 1), 7, np.uint8), np.arange(3))
    assert (found.between, found.margin, found.least_margin) == (0.0, None, None)


def test_two_classes_with_the_same_image_have_a_least_margin_of_zero():
    images = np.zeros((3, 2, 2, 1), np.uint8)
    images[2] = 200
    found = distinctness(images, np.arange(3))
    assert found.least_margin == 0
    assert found.between == pytest.approx(400 / 3)
    assert found.margin == pytest.approx(200 / 3 / (400 / 3))


def test_images_of_several_classes_are_of_one_class_if_they_share_one():
    image = np.array([0, 10, 30, 70], np.uint8)[:, None, None, None]
    label = np.array([[0, 1], [1, 2], [3, -1], [0, 3]])  # 0 and 1, 0 and 3, 2 and 3 share one
    found = distinctness(image, label)
    assert found.within == pytest.approx((10 + 70 + 40) / 3)
    assert found.between == pytest.approx((30 + 20 + 60) / 3)
    assert found.least_margin == pytest.approx(20 / found.between)
