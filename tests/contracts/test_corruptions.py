"""Laws of every corruption; a registry line is what adds the tests. Then each against a slow second implementation."""

import colorsys
import io
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from scaleback.core import seeds
from scaleback.core.errors import InputError
from scaleback.evaluations.corrupting import OPERATIONS
from scaleback.evaluations.corrupting.blurs import disk
from scaleback.evaluations.corrupting.draws import Draws, words
from scaleback.evaluations.corrupting.filters import displaced, streaked
from scaleback.evaluations.corrupting.weather import plasma
from scaleback.evaluations.corruptions import CORRUPTIONS, LEAST_PX, SEVERITIES, applicable, corrupt

UNDRAWN = {"defocus_blur", "gaussian_blur", "zoom_blur", "brightness", "contrast", "saturate", "pixelate", "jpeg"}
"""Nothing about them is random."""
SIZES = [(1, LEAST_PX, LEAST_PX), (3, 8, 12), (3, 32, 32), (1, 45, 37), (3, 64, 64)]
cpu = torch.device("cpu")


@pytest.fixture(params=CORRUPTIONS)
def name(request):
    return request.param


def pictures(count, channels, rows, columns, seed=0):
    """Patches of a few pixels under noise, as textured as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, channels, rows // 4, columns // 4))
    zoom = (1, 1, rows / (rows // 4), columns / (columns // 4))
    fine = rng.random((count, channels, rows, columns))
    image = 0.75 * ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True) + 0.25 * fine
    return torch.from_numpy(image.astype(np.float32)).clamp(0, 1)


def distance(one, other):
    return float((one - other).pow(2).mean().sqrt())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_images_stay_images_and_each_severity_is_further_away(name, size):
    if name not in applicable(size[0]):
        pytest.skip("needs colour")
    image = pictures(12, *size)
    before, distances = image.clone(), [0.0]
    for severity in SEVERITIES:
        result = corrupt(image, name, severity, np.arange(12))
        assert result.shape == image.shape
        assert result.dtype == torch.float32
        assert torch.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 1
        distances.append(distance(result, image))
    assert torch.equal(image, before)
    assert all(near < far for near, far in itertools.pairwise(distances)), distances


@pytest.mark.parametrize("severity", [1, 5])
def test_an_image_is_corrupted_alike_in_any_batch(name, severity):
    image, index = pictures(7, 3, 24, 24), np.array([5, 2**33 + 1, 0, 11, 3, 8, 4])
    together = corrupt(image, name, severity, index)
    assert torch.equal(corrupt(image, name, severity, index), together)
    order = [6, 1, 3]
    torch.testing.assert_close(corrupt(image[order], name, severity, index[order]), together[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(corrupt(image[4:5], name, severity, index[4:5]), together[4:5], rtol=0, atol=1e-5)


def test_images_alike_are_corrupted_apart_where_something_is_drawn(name):
    image = pictures(1, 3, 24, 24).expand(3, -1, -1, -1)
    first, second, again = corrupt(image, name, 3, np.array([1, 2, 1]))
    torch.testing.assert_close(again, first, rtol=0, atol=1e-6)
    assert (distance(first, second) < 1e-6) is (name in UNDRAWN)


def test_extremes_stay_finite(name):
    image = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16), torch.full((3, 16, 16), 0.5)])
    for severity in SEVERITIES:
        result = corrupt(image, name, severity, np.arange(3))
        assert torch.isfinite(result).all()
        if CORRUPTIONS[name].family == "blur" or name in {"contrast", "elastic", "pixelate"}:
            torch.testing.assert_close(result, image, rtol=0, atol=1e-5)


def test_every_corruption_says_what_it_does():
    assert OPERATIONS.keys() == CORRUPTIONS.keys()
    for corruption in CORRUPTIONS.values():
        assert len(corruption.small) == len(corruption.large) == len(SEVERITIES)
        assert len({len(row) for row in corruption.small + corruption.large}) == 1
    assert {corruption.family for corruption in CORRUPTIONS.values()} == {"noise", "blur", "weather", "digital"}
    assert set(applicable(3)) - set(applicable(1)) == {"saturate"}


def test_strengths_are_those_of_the_two_sizes_and_between_them():
    blur = CORRUPTIONS["gaussian_blur"]
    assert [blur.strength(s, 32)[0] for s in SEVERITIES] == [0.4, 0.6, 0.7, 0.8, 1]
    assert [blur.strength(s, 8)[0] for s in SEVERITIES] == [0.4, 0.6, 0.7, 0.8, 1]
    assert [blur.strength(s, 224)[0] for s in SEVERITIES] == pytest.approx([1, 2, 3, 4, 6])
    assert blur.strength(2, 448)[0] == pytest.approx(4)
    assert blur.strength(2, round(32 * math.sqrt(7)))[0] == pytest.approx(1.3, abs=0.01)
    assert CORRUPTIONS["gaussian_noise"].strength(5, 448) == pytest.approx((0.38,))


def test_the_list_of_corruptions_loads_no_torch():
    script = "import sys, scaleback.evaluations.corruptions; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("shape", "name", "severity", "index", "said"),
    [
        ((2, 3, 8, 8), "gaussian_blurr", 1, 2, "unknown corruption"),
        ((2, 3, 8, 8), "gaussian_blur", 0, 2, "severity must be 1 to 5; got 0"),
        ((2, 3, 8, 8), "gaussian_blur", 6, 2, "severity must be 1 to 5; got 6"),
        ((2, 1, 8, 8), "saturate", 1, 2, "saturate takes images of 3 channels; got 1"),
        ((2, 2, 8, 8), "contrast", 1, 2, "contrast takes images of 1 or 3 channels; got 2"),
        ((2, 3, 7, 8), "contrast", 1, 2, "sides must be at least 8 px; got (7, 8)"),
        ((2, 3, 8, 8), "contrast", 1, 3, "an index for each of the 2 images; got (3,)"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_in_one_line(shape, name, severity, index, said):
    with pytest.raises(InputError) as caught:
        corrupt(torch.zeros(shape), name, severity, np.arange(index))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_are_refused():
    with pytest.raises(InputError, match=r"floating point in \[0, 1\]"):
        corrupt(torch.zeros((1, 3, 8, 8), dtype=torch.uint8), "contrast", 1, np.arange(1))


@pytest.mark.parametrize("slots", [1, 4, 7, 33])
def test_words_are_those_of_the_seeds(slots):
    key, index = seeds.key("test", slots), np.array([0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 3])
    ours = words(key, torch.from_numpy(index), slots)
    np.testing.assert_array_equal(ours.numpy(), seeds.words(key, index, slots).astype(np.int64))


def test_draws_are_uniform_and_normal():
    draws = Draws("test", np.arange(40), cpu)
    share, value = draws.uniform("u", 1_000).flatten().numpy(), draws.normal("n", 999).flatten().numpy()
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    assert stats.kstest(value, "norm").pvalue > 1e-3
    assert share.max() < 1


def test_shot_noise_is_the_poisson_quantile_of_its_draw():
    image = pictures(3, 1, 10, 10)
    share = Draws("shot_noise", np.arange(3), cpu).uniform("photons", 1, 10, 10).numpy().astype(float)
    for photons in (3.0, 60.0, 500.0):
        rate = image.numpy().astype(float) * photons
        # Where a share is a step of the distribution itself, ours is the next count.
        theirs = stats.poisson.ppf(np.nextafter(share, 1), rate).clip(min=0) / photons
        ours = OPERATIONS["shot_noise"](image, (photons,), Draws("shot_noise", np.arange(3), cpu))
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


def test_noise_has_the_strength_it_says():
    gray, index = torch.full((16, 1, 32, 32), 0.5), np.arange(16)
    assert (corrupt(gray, "gaussian_noise", 5, index) - 0.5).std() == pytest.approx(0.10, abs=0.002)
    assert (corrupt(gray, "speckle_noise", 5, index) - 0.5).std() == pytest.approx(0.10, abs=0.002)
    assert (corrupt(gray, "shot_noise", 5, index) - 0.5).std() == pytest.approx(math.sqrt(0.5 / 50), abs=0.002)
    salted = corrupt(gray, "impulse_noise", 5, index)
    assert (salted == 1).float().mean() == pytest.approx(0.035, abs=0.004)
    assert (salted == 0).float().mean() == pytest.approx(0.035, abs=0.004)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipys(severity):
    image = pictures(2, 3, 32, 32)
    sigma = CORRUPTIONS["gaussian_blur"].strength(severity, 32)[0]
    theirs = ndimage.gaussian_filter(image.numpy().astype(float), (0, 0, sigma, sigma), mode="nearest", truncate=4)
    ours = corrupt(image, "gaussian_blur", severity, np.arange(2))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-6)


@pytest.mark.parametrize("radius", [0.6, 1.0, 1.5, 3.0, 10.0])
def test_a_disk_weighs_its_area(radius):
    kernel = disk(radius, cpu)
    middle = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    if radius > math.sqrt(0.5):  # the middle pixel lies inside as a whole
        assert kernel[middle, middle] == pytest.approx(1 / (math.pi * radius**2), rel=0.02)
    torch.testing.assert_close(kernel, kernel.T)
    torch.testing.assert_close(kernel, kernel.flip(0))
    at = torch.arange(len(kernel)) - middle
    spread = float((kernel * at**2).sum())
    assert spread == pytest.approx(radius**2 / 4, abs=0.2)  # of a disk's points along an axis, less a pixel's 1/12


def test_a_displacement_of_whole_pixels_moves_pixels_and_repeats_the_edge():
    image = pictures(1, 1, 8, 10)
    moved = displaced(image, torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), -1.0))[0, 0]
    rows, columns = np.clip(np.arange(8) - 1, 0, 7), np.clip(np.arange(10) + 2, 0, 9)
    torch.testing.assert_close(moved, image[0, 0][rows][:, columns], rtol=0, atol=1e-5)


def test_a_streak_is_one_sided_and_along_its_angle():
    image = torch.zeros(2, 1, 21, 21)
    image[:, :, 10, 10] = 1
    along, down = streaked(image, 3, 2.0, torch.tensor([0.0, math.pi / 2]))[:, 0]
    weight = [math.exp(-((tap / 2.0) ** 2) / 2) for tap in range(7)]
    expected = torch.tensor(weight) / sum(weight)
    # A pixel reads ahead of itself, so a point smears behind itself.
    torch.testing.assert_close(along[10, 4:11].flip(0), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(down[4:11, 10].flip(0), expected, rtol=0, atol=1e-5)
    assert along.sum() == pytest.approx(1, abs=1e-4)


def test_motion_is_more_across_than_down():
    image = torch.zeros(40, 1, 33, 33)
    image[:, :, 16, 16] = 1
    streak = corrupt(image, "motion_blur", 5, np.arange(40))[:, 0]
    at = torch.arange(33) - 16.0
    across = (streak * at).sum((1, 2)) / streak.sum((1, 2))
    down = (streak * at[:, None]).sum((1, 2)) / streak.sum((1, 2))
    angle = torch.atan2(-down, -across)  # a point smears behind itself
    assert angle.abs().max() < math.pi / 4 + 0.02
    assert angle.min() < -math.pi / 6
    assert angle.max() > math.pi / 6


def test_snow_falls_both_ways_on_an_image_that_is_whiter():
    black = corrupt(torch.zeros(8, 3, 32, 32), "snow", 1, np.arange(8))
    torch.testing.assert_close(black, black.rot90(2, (2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(black.amin((1, 2, 3)), torch.full((8,), 0.05 * 0.5), rtol=0, atol=1e-6)
    assert (black.amax((1, 2, 3)) > 0.1).all()
    gray = corrupt(torch.full((8, 1, 32, 32), 0.3), "snow", 1, np.arange(8))
    assert gray.min() == pytest.approx(0.95 * 0.3 + 0.05 * (1.5 * 0.3 + 0.5), abs=1e-6)


def test_a_zoom_blurs_the_edge_and_leaves_the_centre():
    image = pictures(4, 1, 33, 33)
    changed = (corrupt(image, "zoom_blur", 5, np.arange(4)) - image).abs().mean((0, 1))
    assert changed[16, 16] < 1e-6
    assert changed[[0, -1]].mean() > 3 * changed[15:18, 15:18].mean()


def mean(height, side, points):
    return sum(height[row % side, column % side] for row, column in points) / 4


def plasma_by_hand(side, decay, draws):
    """Squares, then diamonds, point by point on a torus."""
    height, step, variation = {(0, 0): 0.0}, side, 1.0
    while step > 1:
        size, half = side // step, step // 2
        shift = variation * (2 * draws.uniform(f"plasma {size}", 3, size, size)[0].double().numpy() - 1)

        cells = [(row, column) for row in range(size) for column in range(size)]
        for row, column in cells:
            y, x = row * step, column * step
            corners = [(y, x), (y + step, x), (y, x + step), (y + step, x + step)]
            height[y + half, x + half] = mean(height, side, corners) + shift[0, row, column]
        edges = {}
        for row, column in cells:
            y, x = row * step, column * step
            top = [(y, x), (y, x + step), (y + half, x + half), (y - half, x + half)]
            left = [(y, x), (y + step, x), (y + half, x + half), (y + half, x - half)]
            edges[y, x + half] = mean(height, side, top) + shift[1, row, column]
            edges[y + half, x] = mean(height, side, left) + shift[2, row, column]
        height |= edges
        step, variation = half, variation / decay**2
    array = np.array([[height[row, column] for column in range(side)] for row in range(side)])
    return (array - array.min()) / np.ptp(array)


def test_plasma_is_that_of_loops():
    draws = Draws("fog", np.array([3]), cpu)
    np.testing.assert_allclose(plasma(16, 1.7, draws)[0].numpy(), plasma_by_hand(16, 1.7, draws), atol=1e-5)


def test_fog_is_the_published_formula():
    image = pictures(1, 3, 16, 16)
    cloud = plasma_by_hand(16, 2.5, Draws("fog", np.array([3]), cpu))
    brightest = float(image.max())
    expected = (image.numpy() + 0.75 * cloud) * brightest / (brightest + 0.75)
    np.testing.assert_allclose(corrupt(image, "fog", 3, np.array([3])).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity):
    image = pictures(1, 3, 8, 8)
    image[0, :, 0, 0] = 0
    image[0, :, 0, 1] = 0.4  # gray, which has no hue
    added = CORRUPTIONS["brightness"].strength(severity, 8)[0]
    factor, summand = CORRUPTIONS["saturate"].strength(severity, 8)
    brighter, richer = (corrupt(image, name, severity, np.arange(1))[0] for name in ("brightness", "saturate"))
    for row in range(8):
        for column in range(8):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[0, :, row, column].tolist())
            expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + added))
            assert brighter[:, row, column].tolist() == pytest.approx(expected, abs=1e-5)
            raised = min(1, factor * saturation + summand) if saturation else 0
            expected = colorsys.hsv_to_rgb(hue, raised, value)
            assert richer[:, row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_contrast_is_the_distance_to_each_channels_mean():
    image = pictures(2, 3, 16, 16)
    mean = image.numpy().mean((2, 3), keepdims=True)
    expected = mean + 0.4 * (image.numpy() - mean)
    np.testing.assert_allclose(corrupt(image, "contrast", 3, np.arange(2)).numpy(), expected, atol=1e-6)


def test_spatter_is_mud():
    image = torch.ones(4, 3, 32, 32)
    result = corrupt(image, "spatter", 5, np.arange(4))
    assert torch.isclose(result.amin((2, 3)), torch.tensor([63, 42, 20]) / 255, atol=1e-6).all()
    covered = (result[:, 0] < 0.99).float().mean()
    assert covered == pytest.approx(stats.norm.sf(0.8), abs=0.05)


def test_elastic_moves_by_what_it_says():
    ramp = (torch.arange(128) / 127).expand(6, 1, 128, 128)
    moved = (corrupt(ramp, "elastic", 3, np.arange(6)) - ramp)[:, :, 16:-16, 16:-16] * 127
    assert moved.std() == pytest.approx(0.015 * 128, rel=0.1)


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_is_pillows_box(side, severity):
    level = (pictures(2, 1, side, side) * 255).round()
    small = int(side * CORRUPTIONS["pixelate"].strength(severity, side)[0])
    ours = corrupt(level / 255, "pixelate", severity, np.arange(2)) * 255
    for image, pixels in zip(level, ours, strict=True):
        box = Image.fromarray(image[0].byte().numpy()).resize((small, small), Image.Resampling.BOX)
        theirs = np.asarray(box.resize((side, side), Image.Resampling.BOX), float)
        np.testing.assert_allclose(pixels[0].numpy(), theirs, atol=1.01)  # it rounds columns, and then rows


@pytest.mark.parametrize("size", [(1, 32, 32), (1, 37, 45), (3, 32, 32), (3, 37, 45), (3, 64, 50)], ids=str)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_libjpegs_to_a_level_or_two(size, severity):
    level = (pictures(4, *size) * 255).round()
    quality = round(CORRUPTIONS["jpeg"].strength(severity, min(size[1:]))[0])
    ours = (corrupt(level / 255, "jpeg", severity, np.arange(4)) * 255).permute(0, 2, 3, 1).numpy()
    gaps = []
    for image, pixels in zip(level.byte().permute(0, 2, 3, 1).numpy(), ours, strict=True):
        stored = io.BytesIO()
        Image.fromarray(image[:, :, 0] if size[0] == 1 else image).save(stored, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(stored), float).reshape(pixels.shape)
        gaps.append(np.abs(pixels - theirs))
    gap = np.stack(gaps)
    # Its fixed point turns a coefficient here and there; without its rounding of chroma the mean is above one.
    assert gap.mean() < 0.35
    assert (gap <= 2).mean() > 0.97


@pytest.mark.gpu
def test_a_gpu_corrupts_as_a_cpu_does(name):
    image, index = pictures(6, 3, 40, 40), np.arange(6)
    for severity in SEVERITIES:
        here = corrupt(image, name, severity, index)
        there = corrupt(image.cuda(), name, severity, index).cpu()
        assert (here - there).abs().mean() < 1e-4
