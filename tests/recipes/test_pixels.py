"""What augmentations share: a change of some images is theirs alone, and mixtures are what their formulas say."""

import numpy as np
import pytest
import torch

from scaleback.recipes.pixels import blend_, changed, gray, mean_gray


@pytest.mark.parametrize("chosen", [[], [0], [3], [1, 2], [0, 2], [0, 1, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("in_place", [True, False])
def test_the_chosen_images_are_changed_by_their_own_draws(chosen, in_place):
    image = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    draw_KB = torch.arange(8.0).view(2, 4)

    def change(some_BCHW, draw_KN):
        by = (draw_KN[0] + 10 * draw_KN[1] + 1)[:, None, None, None]
        return some_BCHW.mul_(by) if in_place else some_BCHW * by

    expected = image.clone()
    for place in chosen:
        expected[place] *= place + 10 * (place + 4) + 1
    mask_B = np.isin(np.arange(4), chosen)
    torch.testing.assert_close(changed(image, mask_B, draw_KB, change), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blend_lies_between_or_beyond_and_is_cut(channels):
    image, factor_B = torch.rand(3, channels, 4, 4), torch.tensor([0.2, 1.0, 1.9])
    for other in (gray(image), mean_gray(image)):
        expected = torch.stack([o + f * (i - o) for i, o, f in zip(image, other, factor_B, strict=True)]).clamp(0, 1)
        torch.testing.assert_close(blend_(image.clone(), other, factor_B), expected, atol=1e-6, rtol=0)


def test_blending_images_of_one_channel_with_their_own_gray_leaves_them():
    image = torch.rand(2, 1, 4, 4)
    before = image.clone()
    torch.testing.assert_close(blend_(image, gray(image), torch.tensor([0.3, 1.7])), before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mean_gray_is_the_mean_of_the_gray(channels):
    image = torch.rand(3, channels, 6, 6)
    torch.testing.assert_close(mean_gray(image), gray(image).mean((1, 2, 3), keepdim=True))
