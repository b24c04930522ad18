"""Noise sources against the laws they are drawn from."""

import math

import numpy as np
import pytest

from scaleback.core.errors import SpecError
from scaleback.sources.dead_leaves import DeadLeaves, radii
from scaleback.sources.perlin import Perlin, gradient_noise
from scaleback.sources.point_cloud import PointCloud
from scaleback.sources.spectrum import Spectrum


def images(source, count, seed=0):
    return source.open(seed)(np.arange(count))


def test_a_uniform_cloud_lights_every_pixel_alike():
    lit = images(PointCloud(law="uniform", points=500, size_px=32), 400).image_BHWC[..., 0] > 0
    expected = 1 - (1 - 1 / 32**2) ** 500
    assert lit.mean() == pytest.approx(expected, abs=0.005)
    assert abs(lit.mean(axis=0) - expected).max() < 5 * math.sqrt(expected * (1 - expected) / 400)


def test_a_gaussian_cloud_has_its_spread_and_ends_with_the_picture():
    lit = images(PointCloud(points=40, size_px=96), 1_000).image_BHWC[..., 0] > 0
    _, row, column = np.nonzero(lit)
    for at in (row, column):
        assert at.mean() == pytest.approx(47.5, abs=0.5)
        assert at.std() == pytest.approx(96 / 6, rel=0.03)  # three standard deviations to each side


def test_clouds_are_classes_and_all_other_noise_has_none():
    assert images(PointCloud(points=10, size_px=16), 3).label_B.tolist() == [0, 1, 2]
    for source in (Spectrum(size_px=16), Perlin(size_px=32), DeadLeaves(size_px=32)):
        assert source.classes(5) is None


def test_the_spectrum_falls_with_the_exponents_it_was_drawn_with():
    samples = images(Spectrum(size_px=64, channels=1, exponent=(1.0, 2.0)), 300)
    exponents = samples.facts["exponents"]
    assert exponents.min() >= 1
    assert exponents.max() <= 2
    assert exponents.mean() == pytest.approx(1.5, abs=0.05)
    power = np.abs(np.fft.fft2(samples.image_BHWC[..., 0].astype(float))) ** 2
    for axis, exponent in ((2, exponents[:, 0]), (1, exponents[:, 1])):
        line = power[:, 0, :] if axis == 2 else power[:, :, 0]
        # Along an axis of the plane the amplitude is f^-a; mean over images with an exponent near the middle.
        middle = abs(exponent - 1.5) < 0.25
        slope = np.polyfit(np.log([2, 4, 8, 16]), np.log(line[middle][:, [2, 4, 8, 16]].mean(axis=0)), 1)[0]
        assert slope == pytest.approx(-3.0, abs=0.5)


def test_images_of_a_spectrum_are_gray_on_the_mean():
    made = images(Spectrum(size_px=64, exponent=(1.0, 1.0)), 20).image_BHWC.astype(float)
    assert made.mean(axis=(1, 2)) == pytest.approx(np.full((20, 3), 127), abs=3)
    assert made.std(axis=(1, 2)) == pytest.approx(np.full((20, 3), 127.5 / 3), rel=0.1)


def test_gradient_noise_is_zero_at_nodes_and_a_slope_beside_them():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (5, 5))
    noise = gradient_noise(angle, 4_000)  # a thousand pixels a cell
    assert abs(noise[999:1001, 1999:2001]).max() < 1e-3
    right = (noise[1000, 2020] - noise[1000, 2000]) / 0.02
    assert right == pytest.approx(np.cos(angle[1, 2]), abs=0.03)
    assert (noise[1020, 2000] - noise[1000, 2000]) / 0.02 == pytest.approx(np.sin(angle[1, 2]), abs=0.03)
    assert abs(noise).max() < 1


def test_perlin_noise_agrees_with_a_loop():
    angle = np.random.default_rng(1).uniform(0, 2 * np.pi, (4, 4))
    made = gradient_noise(angle, 12)
    for row in range(12):
        for column in range(12):
            y, x = (row + 0.5) / 4, (column + 0.5) / 4
            total = 0.0
            for node_y in (int(y), int(y) + 1):
                for node_x in (int(x), int(x) + 1):
                    weight = 1.0
                    for distance in (abs(y - node_y), abs(x - node_x)):
                        weight *= 1 - (6 * distance**5 - 15 * distance**4 + 10 * distance**3)
                    turn = angle[node_y, node_x]
                    total += weight * (math.cos(turn) * (x - node_x) + math.sin(turn) * (y - node_y))
            assert made[row, column] == pytest.approx(total, abs=1e-12)


def test_perlin_noise_fills_black_to_white_and_more_octaves_are_rougher():
    rough = []
    for octaves in (1, 4):
        made = images(Perlin(size_px=64, octaves=octaves), 10).image_BHWC[..., 0].astype(float)
        assert made.min(axis=(1, 2)).max() == 0
        assert made.max(axis=(1, 2)).min() == 255
        rough.append(abs(np.diff(made, axis=2)).mean())
    assert rough[1] > 1.2 * rough[0]


def test_leaves_have_radii_with_density_r_to_the_minus_three():
    radius = radii((np.arange(100_000) + 0.5) / 100_000, 0.02, 0.5)
    assert radius.min() == pytest.approx(0.02, rel=1e-3)
    assert radius.max() > 0.4
    for bound in (0.03, 0.05, 0.1, 0.3):
        assert (radius > bound).mean() == pytest.approx((bound**-2 - 0.5**-2) / (0.02**-2 - 0.5**-2), abs=1e-4)


@pytest.mark.parametrize("leaf", ["circle", "square"])
def test_leaves_cover_the_picture_with_flat_colours(leaf):
    samples = images(DeadLeaves(size_px=64, leaf=leaf, radius=(0.1, 0.5)), 6)
    assert (samples.facts["leaves"] > 5).all()
    for image in samples.image_BHWC:
        colours = np.unique(image.reshape(-1, 3), axis=0)
        assert 3 < len(colours) < 150
        assert (image[:, 1:] == image[:, :-1]).all(axis=2).mean() > 0.7  # mostly the inside of leaves


@pytest.mark.parametrize(
    ("kind", "plain", "line"),
    [
        (Spectrum, {"exponent": [2.0, 1.0]}, "exponent: must be a range from 0 on; got (2.0, 1.0)"),
        (Perlin, {"size_px": 16, "octaves": 4}, "octaves: must leave a pixel to each cell; the last has 32; got 4"),
        (DeadLeaves, {"radius": [0.5, 0.1]}, "radius: must be a range above 0, up to 10; got (0.5, 0.1)"),
        (DeadLeaves, {"size_px": 16}, "radius: must begin at half a pixel or more; got 0.32"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind, plain, line):
    with pytest.raises(SpecError) as caught:
        kind.parse(plain)
    assert str(caught.value) == line
