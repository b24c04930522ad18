"""RandAugment against timm's, operation by operation on 8-bit images, and how often and how strongly each is drawn."""

import math

import numpy as np
import pytest
import torch
from kornia.enhance import equalize
from PIL import Image

from scaleback.core import seeds
from scaleback.recipes import RandAugment
from scaleback.recipes.randaugment import OPERATIONS, randaugment
from scaleback.torchvision_operators import declare

declare()  # before timm, which imports torchvision
from timm.data import auto_augment  # noqa: E402

SIZE, FILL = 32, 128
MOVING = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
SIGNED = (*MOVING, "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing")
CASES = [(name, sign) for name in OPERATIONS for sign in ((1, -1) if name in SIGNED else (1,))]
LEVELS = (0.0, 0.26, 0.9, 0.97, 1.0)


def picture(channels=3):
    """(C, H, W) of 8 bits: smooth colours, so that an interpolated place is a question of tenths of a level."""
    across, down = np.meshgrid(np.linspace(0, 1, SIZE), np.linspace(0, 1, SIZE))
    waves = [np.sin(4 * across + 2 * down), np.cos(3 * down - across), np.sin(5 * across * down + 1)]
    return torch.from_numpy(np.stack([np.round(125 + 100 * wave) for wave in waves[:channels]]).astype(np.uint8))


def dots(channels=3):
    """Noise in which every level occurs."""
    shape = (channels, SIZE, SIZE)
    return torch.from_numpy(np.random.default_rng(0).integers(10, 246, shape).astype(np.uint8))


def ours(name, image_CHW, level, sign, fill=FILL):
    """In levels of 0 to 255."""
    at = torch.tensor([level], dtype=torch.float32)
    made = OPERATIONS[name](image_CHW[None].float() / 255, at, sign * at, fill / 255)
    assert made.min() >= -1e-6
    assert made.max() <= 1 + 1e-6
    return made[0].numpy() * 255


def theirs(name, image_CHW, level, sign, monkeypatch, fill=FILL):
    """What timm does at magnitude 10 x level, its coin thrown to ``sign``."""
    monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value: sign * value)
    to_argument = auto_augment.LEVEL_TO_ARG[name]
    arguments = () if to_argument is None else to_argument(10 * level, {})
    if name == "PosterizeIncreasing" and arguments == (0,):
        return np.zeros((1, SIZE, SIZE))  # no bit is kept; newer PILs refuse it, at magnitude 10 only
    pixels = image_CHW.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels if len(image_CHW) == 3 else pixels[:, :, 0])
    colour = (fill,) * 3 if len(image_CHW) == 3 else fill
    made = auto_augment.NAME_TO_OP[name](image, *arguments, fillcolor=colour, resample=Image.Resampling.BILINEAR)
    return np.asarray(made, float).reshape(SIZE, SIZE, -1).transpose(2, 0, 1)


def test_the_operations_are_timm_s_increasing_ones_in_its_order():
    assert list(OPERATIONS) == auto_augment._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "sign"), [case for case in CASES if case[0] not in MOVING])
def test_an_operation_on_values_is_timm_s_within_two_levels(name, sign, channels, monkeypatch):
    # PIL rounds in between: the gray value of a colour, then the blend with a factor of up to 1.9.
    for image in (picture(channels), dots(channels)):
        for level in LEVELS:
            difference = ours(name, image, level, sign) - theirs(name, image, level, sign, monkeypatch)
            assert abs(difference).max() <= 2, level


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "sign"), [case for case in CASES if case[0] in MOVING])
def test_an_operation_on_places_is_timm_s_but_for_a_blend_along_the_edge(name, sign, channels, monkeypatch):
    white = torch.full((channels, SIZE, SIZE), 255, dtype=torch.uint8)
    for level in LEVELS:
        inside = (ours(name, white, level, sign, fill=0) > 254.9) & (
            theirs(name, white, level, sign, monkeypatch, 0) == 255
        )
        outside = ours(name, white, level, sign, fill=0) < 0.1
        assert inside.mean() > 0.4
        assert (inside | outside).mean() > 0.85
        made = ours(name, picture(channels), level, sign)
        expected = theirs(name, picture(channels), level, sign, monkeypatch)
        assert abs(made - expected)[inside].max() <= 2, level
        assert (abs(made - expected)[outside] <= 1).all(), level
        assert (abs(made - FILL)[outside] <= 0.5).all(), level


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_of_a_batch_gets_its_own_strength(name):
    image = torch.stack([picture(), dots(), picture()]).float() / 255
    level = torch.tensor([0.2, 0.9, 0.6])
    together = OPERATIONS[name](image.clone(), level, -level, 0.5)
    alone = [OPERATIONS[name](image[[n]], level[[n]], -level[[n]], 0.5) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_equalize_is_kornia_s(channels):
    noise = torch.rand(4, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    noise[1] = (noise[1] * 10).floor() / 255  # ten levels
    noise[2] = 0.3  # one level: its pixels are all that there are
    noise[3] = (noise[3] > 0.5).float()
    for image in (noise, noise[:, :, :8, :8]):  # of 64 pixels none is moved: they are fewer than the levels
        assert torch.equal(OPERATIONS["Equalize"](image.clone(), torch.zeros(4), torch.zeros(4), 0.5), equalize(image))


@pytest.fixture
def drawn(monkeypatch):
    """Every operation notes the strengths it is called with, and leaves the images as they are."""
    noted = {name: [] for name in OPERATIONS}

    def listener(name):
        def operation(image, level, signed, fill):
            noted[name] += zip(level.tolist(), signed.tolist(), strict=True)
            return image

        return operation

    for name in list(OPERATIONS):
        monkeypatch.setitem(OPERATIONS, name, listener(name))
    return noted


def draw(count, **fields):
    image = torch.zeros(count, 1, 1, 1)
    randaugment(image, RandAugment(**fields), seeds.key("test"), np.arange(count), fill=0.5)


def test_each_operation_is_drawn_equally_often_and_applied_half_the_time(drawn):
    draw(6_000)
    counts = np.array([len(noted) for noted in drawn.values()])
    # 12,000 draws, each with chance 1 / 30; five standard deviations.
    assert abs(counts - 400).max() < 5 * math.sqrt(400 * 29 / 30)
    assert abs(counts.sum() - 6_000) < 5 * math.sqrt(12_000 / 4)


def test_magnitudes_are_normal_cut_at_ten_and_of_either_sign(drawn):
    draw(6_000)
    level, signed = np.concatenate([np.array(noted) for noted in drawn.values()]).T
    assert (abs(signed) == level).all()
    assert (signed < 0).mean() == pytest.approx(0.5, abs=0.035)
    assert level.max() == 1
    # Two standard deviations above the mean lies the cut: quantiles below it are the normal's.
    for sigma, share in ((-2, 0.0228), (-1, 0.1587), (0, 0.5), (1, 0.8413)):
        assert (level <= 0.9 + 0.05 * sigma).mean() == pytest.approx(share, abs=0.03)
    assert (level == 1).mean() == pytest.approx(0.0228, abs=0.01)


def test_without_spread_every_magnitude_is_the_set_one(drawn):
    draw(200, magnitude=4.0, magnitude_std=0.0)
    levels = {round(level, 6) for noted in drawn.values() for level, _ in noted}
    assert levels == {0.4}


@pytest.mark.parametrize("operations", [1, 3])
def test_so_many_operations_are_drawn_for_an_image(drawn, operations):
    draw(2_000, operations=operations)
    applied = sum(len(noted) for noted in drawn.values())
    assert applied == pytest.approx(1_000 * operations, rel=0.08)


def test_operations_follow_one_another():
    image = torch.stack([dots()] * 400).float() / 255
    once = randaugment(image.clone(), RandAugment(operations=1), seeds.key("test"), np.arange(400), fill=0.5)
    twice = randaugment(image.clone(), RandAugment(operations=8), seeds.key("test"), np.arange(400), fill=0.5)
    changed_once, changed_twice = ((made != image).any(3).any(2).any(1).float().mean() for made in (once, twice))
    assert 0.4 < changed_once < 0.6
    assert changed_twice > 0.98  # 1 - 0.5 ** 8
