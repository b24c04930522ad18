"""Which images make a batch: fresh permutations end to end, whatever the batch, the step asked first, or the slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.pretrain.order import TOGETHER_IMAGES, BatchOrder


def stream(images, batch, steps, seed=3):
    """All indices and epochs of the first steps, one after another."""
    order = BatchOrder(images=images, batch_images=batch, seed=seed)
    index_SB, epoch_SB = zip(*(order.batch(step) for step in range(steps)), strict=True)
    return np.concatenate(index_SB), np.concatenate(epoch_SB)


@settings(deadline=None, max_examples=25)
@given(images=st.integers(1, 40), batch=st.integers(1, 50), epochs=st.integers(1, 5))
def test_each_epoch_is_a_permutation_and_no_image_is_dropped(images, batch, epochs):
    index_S, epoch_S = stream(images, batch, -(-images * epochs // batch))
    for epoch in range(epochs):
        mine = slice(epoch * images, (epoch + 1) * images)
        assert sorted(index_S[mine]) == list(range(images))
        assert (epoch_S[mine] == epoch).all()


def test_a_set_larger_than_what_is_shuffled_together_is_permuted_whole():
    images = TOGETHER_IMAGES + 5
    index_S, _ = stream(images, images, 2)
    assert sorted(index_S[:images]) == sorted(index_S[images:]) == list(range(images))
    assert (index_S[:images] != index_S[images:]).any()


@pytest.mark.parametrize("batch", [1, 7, 16, 90])
def test_the_order_of_images_does_not_depend_on_how_it_is_cut(batch):
    whole, _ = stream(30, 720, 1)
    cut, _ = stream(30, batch, 720 // batch)
    assert (cut == whole[: len(cut)]).all()


def test_a_batch_is_the_same_whichever_was_asked_before():
    # 1,500 images: two epochs are shuffled together, so far steps evict near ones.
    order = BatchOrder(images=1_500, batch_images=700, seed=1)
    expected = {step: order.batch(step) for step in range(30)}
    for step in (29, 3, 17, 0):
        fresh = BatchOrder(images=1_500, batch_images=700, seed=1)
        for again in (fresh.batch(step), order.batch(step)):
            assert (again[0] == expected[step][0]).all()
            assert (again[1] == expected[step][1]).all()


def test_a_batch_larger_than_the_set_spans_epochs():
    index_B, epoch_B = BatchOrder(images=4, batch_images=10, seed=0).batch(1)
    assert epoch_B.tolist() == [2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
    assert sorted(index_B[2:6]) == sorted(index_B[6:]) == [0, 1, 2, 3]


def test_seeds_draw_different_orders():
    assert (stream(100, 100, 1, seed=1)[0] != stream(100, 100, 1, seed=2)[0]).any()


def test_all_permutations_are_about_equally_frequent():
    epochs = 6_000
    index_ES = stream(3, 3 * epochs, 1)[0].reshape(epochs, 3)
    _, count = np.unique(index_ES @ [9, 3, 1], return_counts=True)
    assert len(count) == 6
    assert abs(count - epochs / 6).max() < 5 * np.sqrt(epochs * 5 / 36)  # five standard deviations of a binomial
