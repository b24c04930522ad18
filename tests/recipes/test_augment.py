"""Views of images: a function of (seed, epoch, index, view), and each operation within its declared bounds."""

import colorsys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scaleback.recipes import Augmentation, RandAugment
from scaleback.recipes.augment import Augmenter, blur, normalise_, pool, resample, resize, turn_hue
from scaleback.recipes.pixels import affine_grid, gray
from scaleback.torchvision_operators import declare

declare()  # before torchvision
import torchvision.transforms.functional as TF  # noqa: E402

CPU = torch.device("cpu")
RAW = {"mean": 0.0, "std": 1.0}  # normalisation that changes nothing
SQUARE = {"crop_ratio": (1.0, 1.0)}
EVERYTHING = Augmentation(
    crop_scale=(0.3, 0.7),
    flip_horizontal=0.5,
    flip_vertical=0.5,
    rotate_deg=20.0,
    randaugment=RandAugment(),
    jitter=(0.4, 0.4, 0.4, 0.1),
    jitter_chance=0.8,
    gray_chance=0.2,
    blur_chance=0.5,
    solarize_chance=0.2,
    erase_chance=0.5,
)


def pictures(count, size=24, channels=3, low=0, high=256, seed=0):
    shape = (count, channels, size, size)
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint8))


def views(spec, image_BCHW, index_B=None, *, epoch=0, seed=1, view=0, image_px=None):
    index_B = np.arange(len(image_BCHW)) if index_B is None else np.asarray(index_B)
    image_px = image_BCHW.shape[-1] if image_px is None else image_px
    augment = Augmenter(spec, seed=seed, view=view, image_px=image_px, device=CPU)
    return augment(image_BCHW / 255, index_B, np.full(len(index_B), epoch))


# What a view depends on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_does_not_depend_on_the_batch_around_it(channels):
    image = pictures(24, channels=channels)
    together = views(EVERYTHING, image, image_px=16)
    backwards = views(EVERYTHING, image.flip(0), np.arange(24)[::-1].copy(), image_px=16).flip(0)
    alone = torch.cat([views(EVERYTHING, image[[place]], [place], image_px=16) for place in range(24)])
    # Sums in another order differ by 1e-7; a threshold of solarize may turn that into another pixel, here none.
    torch.testing.assert_close(backwards, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 1}, {"view": 1}, {"index_B": np.arange(12) + 12}])
def test_seed_epoch_view_and_index_each_draw_anew(change):
    image = pictures(1).expand(12, -1, -1, -1)
    before, after = views(EVERYTHING, image), views(EVERYTHING, image, **change)
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_no_two_pairs_of_epoch_and_index_share_a_draw():
    image = pictures(1).expand(6, -1, -1, -1)
    made = torch.cat([views(EVERYTHING, image, epoch=epoch) for epoch in range(6)])
    assert len(made.flatten(1).unique(dim=0)) == 36


def test_the_same_draw_is_made_twice():
    assert torch.equal(views(EVERYTHING, pictures(12)), views(EVERYTHING, pictures(12)))


@pytest.mark.parametrize("image_px", [12, 24])
def test_the_images_stay_as_they_are(image_px):
    unit, index = pictures(8) / 255, np.arange(8)
    before = unit.clone()
    Augmenter(EVERYTHING, seed=0, view=0, image_px=image_px, device=CPU)(unit, index, 0 * index)
    assert torch.equal(unit, before)


# Resampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 32])
def test_the_affine_grid_is_torch_s(size):
    affine = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    theirs = F.affine_grid(affine, [5, 3, size, size], align_corners=False)
    torch.testing.assert_close(affine_grid(affine, size), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pooling_is_torch_s(factor):
    image = torch.rand(2, 3, 5 * factor, 7 * factor, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pool(image, factor), F.avg_pool2d(image, factor))


def test_without_augmentation_an_image_stays_as_it_is():
    image = pictures(20)
    torch.testing.assert_close(views(Augmentation(**SQUARE, **RAW), image), image / 255, atol=1e-5, rtol=0)


def test_the_default_augmentation_is_none():
    image = pictures(20)
    torch.testing.assert_close(views(Augmentation(**RAW), image), image / 255, atol=1e-5, rtol=0)


def test_without_augmentation_a_view_of_half_the_size_is_the_mean_of_four_pixels():
    image = pictures(4, size=32)
    made = views(Augmentation(**SQUARE, **RAW), image, image_px=16)
    torch.testing.assert_close(made, F.avg_pool2d(image / 255, 2), atol=1e-5, rtol=0)


def test_without_augmentation_a_view_of_twice_the_size_is_bilinear():
    image = pictures(4, size=8)
    made = views(Augmentation(**SQUARE, **RAW), image, image_px=16)
    torch.testing.assert_close(made, F.interpolate(image / 255, 16, mode="bilinear"), atol=1e-5, rtol=0)


def test_resample_reads_by_hand_computed_places():
    # Half a width, moved right by half: the view's columns lie at source columns 1 to 3 of 4, in pixel centres.
    image = torch.arange(4.0).expand(1, 1, 4, 4)
    made = resample(image, torch.tensor([[[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]]), 2, 1)
    assert made[0, 0, 0].tolist() == [2.0, 3.0]


RAMP_PX, RAMP_STEP = 64, 4
RAMP = RAMP_STEP * torch.arange(RAMP_PX)
RAMPS = torch.stack(torch.meshgrid(RAMP, RAMP, indexing="xy"))  # a picture of its own coordinates


def maps(spec, count, seed):
    """Affine maps behind views, (count, 2, 2), and their middles, (count, 2), read off ``RAMPS``."""
    image = RAMPS.to(torch.uint8).expand(count, -1, -1, -1)
    view = views(spec.replace(RAW), image, seed=seed, image_px=16).double() * 255 / RAMP_STEP
    inner = view[:, :, 4:12, 4:12]  # away from the mirrored edges
    across = (inner[:, :, :, -1] - inner[:, :, :, 0]).mean(2) / 7
    down = (inner[:, :, -1, :] - inner[:, :, 0, :]).mean(2) / 7
    middle = (inner.mean((2, 3)) + 0.5) / RAMP_PX
    return (torch.stack([across, down], dim=2) * 16 / RAMP_PX).numpy(), middle.numpy()


def check_crops(scale, ratio, seed):
    spec = Augmentation(crop_scale=scale, crop_ratio=ratio, flip_horizontal=0.5, flip_vertical=0.5)
    linear_B22, middle_B2 = maps(spec, 40, seed)
    side_B2 = abs(linear_B22.diagonal(axis1=1, axis2=2))
    area_B = side_B2.prod(axis=1)
    assert area_B.min() >= scale[0] - 0.01
    assert area_B.max() <= scale[1] + 0.01
    fits = side_B2.max(axis=1) < 0.99
    aspect_B = side_B2[fits, 0] / side_B2[fits, 1]
    assert (aspect_B >= ratio[0] * 0.97).all()
    assert (aspect_B <= ratio[1] * 1.03).all()
    assert (middle_B2 - side_B2 / 2 >= -0.01).all()
    assert (middle_B2 + side_B2 / 2 <= 1.01).all()


@settings(deadline=None, max_examples=25)
@given(
    scale=st.tuples(st.floats(0.05, 0.75), st.floats(0.05, 0.75)).map(lambda pair: tuple(sorted(pair))),
    ratio=st.tuples(st.floats(0.75, 1.33), st.floats(0.75, 1.33)).map(lambda pair: tuple(sorted(pair))),
    seed=st.integers(0, 2**31),
)
def test_a_crop_has_a_share_and_an_aspect_within_the_declared_bounds_and_lies_in_the_image(scale, ratio, seed):
    check_crops(scale, ratio, seed)


def test_a_crop_of_nearly_the_whole_image_has_the_declared_share_too():
    check_crops((0.9, 1.0), (3 / 4, 4 / 3), 0)


def test_crops_use_the_whole_range():
    area_B = abs(np.linalg.det(maps(Augmentation(crop_scale=(0.1, 0.7)), 600, 0)[0]))
    assert np.quantile(area_B, [0.1, 0.5, 0.9]) == pytest.approx([0.16, 0.4, 0.64], abs=0.05)


def test_a_flip_mirrors():
    image = pictures(3)
    across = views(Augmentation(**SQUARE, **RAW, flip_horizontal=1.0), image)
    down = views(Augmentation(**SQUARE, **RAW, flip_vertical=1.0), image)
    torch.testing.assert_close(across, (image / 255).flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(down, (image / 255).flip(2), atol=1e-5, rtol=0)


def test_flips_come_as_often_as_declared_and_apart():
    linear = maps(Augmentation(**SQUARE, flip_horizontal=0.3, flip_vertical=0.6), 1_000, 0)[0]
    across, down = linear[:, 0, 0] < 0, linear[:, 1, 1] < 0
    assert across.mean() == pytest.approx(0.3, abs=0.06)  # four standard deviations
    assert down.mean() == pytest.approx(0.6, abs=0.06)
    assert (across & down).mean() == pytest.approx(0.18, abs=0.05)


def test_a_rotation_keeps_the_size_and_uses_its_range_either_way():
    linear = maps(Augmentation(**SQUARE, rotate_deg=12.0), 400, 0)[0]
    assert np.linalg.det(linear) == pytest.approx(np.ones(400), abs=0.01)
    angle = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert abs(angle).max() <= 12.1
    assert np.quantile(angle, [0.1, 0.5, 0.9]) == pytest.approx([-9.6, 0, 9.6], abs=1.2)


# Colour -------------------------------------------------------------------------------------------------------------

MIDDLING = pictures(60, size=8, low=90, high=160)  # so that no jitter below reaches 0 or 1


def factors(made, image, other):
    """The factor f of each view in view = other + f (image - other), and that it is one factor."""
    by, change = (image - other).flatten(1), (made - other).flatten(1)
    factor = (by * change).sum(1) / (by * by).sum(1)
    torch.testing.assert_close(change, factor[:, None] * by, atol=1e-4, rtol=0)
    return factor.numpy()


@pytest.mark.parametrize("slot", [0, 1, 2], ids=["brightness", "contrast", "saturation"])
def test_jitter_blends_as_torchvision_does_by_a_factor_within_its_strength(slot):
    strength = [0.0] * 4
    strength[slot] = 0.4
    image = MIDDLING / 255
    degenerate = TF.rgb_to_grayscale(image)  # rounded weights: 0.2989, 0.587, 0.114
    other = [torch.zeros(1), degenerate.mean((1, 2, 3), keepdim=True), degenerate][slot]
    made = views(Augmentation(**SQUARE, **RAW, jitter=tuple(strength)), MIDDLING)
    factor_B = factors(made, image, other.expand_as(image))
    assert abs(factor_B - 1).max() <= 0.4 + 1e-3
    assert factor_B.min() < 0.7
    assert factor_B.max() > 1.3


def test_a_jitter_stronger_than_one_never_inverts():
    image = MIDDLING / 255
    made = views(Augmentation(**SQUARE, **RAW, jitter=(0.0, 1.8, 0.0, 0.0)), MIDDLING)
    bright = image > image.mean((1, 2, 3), keepdim=True) + 0.05
    assert ((made - made.mean((1, 2, 3), keepdim=True))[bright] > -1e-3).all()


def test_hue_turns_the_colours_of_a_view_by_one_angle_within_its_strength():
    made = views(Augmentation(**SQUARE, **RAW, jitter=(0.0, 0.0, 0.0, 0.1)), MIDDLING)
    largest = []
    for before, after in zip(MIDDLING / 255, made, strict=True):
        old, new = (
            np.array([colorsys.rgb_to_hsv(*pixel) for pixel in one.flatten(1).T.tolist()]) for one in (before, after)
        )
        assert new[:, 1:] == pytest.approx(old[:, 1:], abs=1e-4)
        coloured = old[:, 1] > 0.1
        turn = (new[coloured, 0] - old[coloured, 0] + 0.5) % 1 - 0.5
        assert turn.std() < 1e-3
        largest.append(abs(turn.mean()))
    assert 0.08 < max(largest) <= 0.1 + 1e-3


@pytest.mark.parametrize("chance", ["jitter_chance", "gray_chance", "solarize_chance", "blur_chance"])
def test_a_chance_is_the_share_of_images(chance):
    jitter = (0.9, 0.0, 0.0, 0.0) if chance == "jitter_chance" else (0.0,) * 4
    image = pictures(800, size=6)
    made = views(Augmentation(**SQUARE, **RAW, jitter=jitter).replace({chance: 0.3}), image)
    changed = (made - image / 255).abs().amax((1, 2, 3)) > 1e-3
    assert changed.float().mean() == pytest.approx(0.3, abs=0.065)  # four standard deviations


def test_gray_is_the_luminance_in_every_channel():
    image = pictures(3)
    made = views(Augmentation(**SQUARE, **RAW, gray_chance=1.0), image)
    for one, other in zip(image, made, strict=True):
        theirs = np.asarray(Image.fromarray(one.permute(1, 2, 0).numpy()).convert("L"), float) / 255
        assert other.numpy() == pytest.approx(np.stack([theirs] * 3), abs=0.6 / 255)


def test_gray_of_one_channel_is_itself():
    image = torch.rand(2, 1, 4, 4)
    assert torch.equal(gray(image), image)


def test_solarize_inverts_what_is_bright():
    image = pictures(3)
    made = views(Augmentation(**SQUARE, **RAW, solarize_chance=1.0), image)
    torch.testing.assert_close(made, TF.solarize(image / 255, 0.5), atol=1e-5, rtol=0)


def test_each_image_is_blurred_by_its_own_sigma():
    image = pictures(2) / 255
    theirs = [TF.gaussian_blur(one, [7, 7], [sigma, sigma]) for one, sigma in zip(image, (0.1, 2.0), strict=True)]
    torch.testing.assert_close(blur(image, torch.tensor([0.1, 2.0]), 3), torch.stack(theirs), atol=1e-5, rtol=0)


def test_blur_is_torchvision_s_gaussian():
    image = pictures(3)
    made = views(Augmentation(**SQUARE, **RAW, blur_chance=1.0, blur_sigma_px=(0.8, 0.8)), image)
    torch.testing.assert_close(made, TF.gaussian_blur(image / 255, [5, 5], [0.8, 0.8]), atol=1e-5, rtol=0)


def test_colour_keeps_to_the_range():
    spec = EVERYTHING.replace({"erase_chance": 0.0, "jitter": [0.9, 0.9, 0.9, 0.5]})
    made = views(spec.replace(RAW), pictures(60))
    assert made.min() >= -1e-5
    assert made.max() <= 1 + 1e-5


# Erasing ------------------------------------------------------------------------------------------------------------


def erased(chance, count, size):
    """Which pixels of black images were erased, and the views; black is -1 after normalising."""
    black = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    view = views(Augmentation(**SQUARE, erase_chance=chance), black)
    return view[:, 0] != -1, view[:, 0]


def test_an_erased_part_is_a_box_of_a_share_and_an_aspect_as_timm_s():
    size = 64
    for box in erased(1.0, 120, size)[0]:
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns)
        height, width = int(rows.sum()), int(columns.sum())
        assert (height + 1) * (width + 1) >= 0.02 * size**2
        assert (height - 1) * (width - 1) <= size**2 / 3
        assert (height + 1) / max(1, width - 1) >= 0.3
        assert (width + 1) / max(1, height - 1) >= 0.3


def test_erasing_comes_as_often_as_declared_and_may_lie_anywhere():
    box_BHW, _ = erased(0.4, 1_000, 16)
    assert box_BHW.any((1, 2)).float().mean() == pytest.approx(0.4, abs=0.062)  # four standard deviations
    assert box_BHW.any((0, 1)).all()
    assert box_BHW.any((0, 2)).all()


def test_noise_of_an_erased_part_is_standard_normal_and_differs_between_images():
    box_BHW, view_BHW = erased(1.0, 50, 64)
    noise = view_BHW[box_BHW].double()
    assert noise.mean().item() == pytest.approx(0, abs=0.05)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    both = box_BHW[0] & box_BHW[1:]
    place = int(both.sum((1, 2)).argmax()) + 1
    assert (view_BHW[0] != view_BHW[place])[both[place - 1]].all()


# Size and range -----------------------------------------------------------------------------------------------------


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation():
    image = pictures(2)
    made = views(Augmentation(**SQUARE, mean=0.4, std=0.2), image)
    torch.testing.assert_close(made, (image / 255 - 0.4) / 0.2, atol=1e-4, rtol=0)
    assert normalise_(torch.tensor([0.0, 0.5, 1.0]), 0.5, 0.25).tolist() == [-2, 0, 2]


@pytest.mark.parametrize("size", [24, 9, 31])
def test_resize_is_pil_s_bilinear(size):
    image = pictures(2)
    for one, made in zip(image, resize(image, size), strict=True):
        theirs = Image.fromarray(one.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BILINEAR)
        assert made.permute(1, 2, 0).numpy() * 255 == pytest.approx(np.asarray(theirs, float), abs=1.01)


def test_a_large_image_is_sampled_finely_enough_to_miss_no_pixel():
    # White dots one pixel wide on every fourth row and column: a sparse sampling would see them or not by chance.
    image = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    image[:, :, ::4, ::4] = 255
    made = views(Augmentation(**SQUARE, **RAW), image, image_px=16)
    assert made.flatten().tolist() == pytest.approx([1 / 16] * 256, abs=1e-5)


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.25, 0.5])
def test_hue_is_turned_as_colorsys_would(turn):
    image = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    image[0, :, 0, 0], image[0, :, 0, 1], image[0, :, 0, 2] = 0.3, 0.0, torch.tensor([1.0, 0.0, 1.0])
    found = turn_hue(image, torch.tensor([turn, turn / 2]))
    for picture, angle in ((0, turn), (1, turn / 2)):
        for row in range(6):
            for column in range(6):
                hue, saturation, value = colorsys.rgb_to_hsv(*image[picture, :, row, column].tolist())
                expected = colorsys.hsv_to_rgb((hue + angle) % 1, saturation, value)
                assert found[picture, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_change_by_chance_is_that_of_the_whole_batch():
    spec = Augmentation(jitter=(0.4, 0.4, 0.2, 0.1), jitter_chance=0.5, gray_chance=0.5, blur_chance=0.5)
    image = torch.rand(16, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    augment = Augmenter(spec, seed=0, view=0, image_px=24, device=torch.device("cpu"))
    index = np.arange(16)
    whole = augment(image, index, 0 * index)
    for one in index:
        alone = augment(image[one : one + 1], index[one : one + 1], 0 * index[:1])
        torch.testing.assert_close(alone[0], whole[one], atol=1e-5, rtol=1e-5)
