"""1p-frac: its two noise laws, its redraws, and that an image can be drawn again from its facts."""

import numpy as np
import pytest

from scaleback.core import seeds
from scaleback.core.errors import RenderError, SpecError
from scaleback.sources import ifs
from scaleback.sources.kernels import chaos
from scaleback.sources.one_fractal import OnePFrac
from tests.sources.reference import orbit, picture

POINTS, SIZE = 3_000, 32


def small(**fields):
    """Drawn exactly, so that pictures can be compared with the reference."""
    return OnePFrac(**{"size_px": SIZE, "points": POINTS, "min_fill": 0.0, "renderer": "exact", **fields})


def drawn(source, seed, images):
    reader = source.open(seed)
    return reader.record, reader(np.arange(images))


def by_hand(base, delta, law, draw):
    """Row by row, number by number: times U(1-delta, 1+delta) as released, plus U(-delta/2, delta/2) as published."""
    perturbed = []
    for numbers, chances in zip(base, draw, strict=True):
        if law == "multiplicative":
            perturbed.append([x * ((1 - delta) + 2 * delta * u) for x, u in zip(numbers, chances, strict=True)])
        else:
            perturbed.append([x + (-delta / 2 + delta * u) for x, u in zip(numbers, chances, strict=True)])
    return perturbed


@pytest.mark.parametrize("law", ["multiplicative", "additive"])
@pytest.mark.parametrize("maps", [1, 2, 3])
def test_a_perturbation_follows_its_law(law, maps):
    record, samples = drawn(small(perturb=law, delta=0.3, maps=maps, sigma=1.7 * maps), 5, 20)
    stream = seeds.key("1p-frac noise", 5)
    for index, (system, redraws) in enumerate(zip(samples.facts["system"], samples.facts["redraws"], strict=True)):
        draw = seeds.uniform(stream, [index * 256 + int(redraws)], 6 * maps).reshape(maps, 6)
        assert system == pytest.approx(np.array(by_hand(record["base"], 0.3, law, draw)), abs=1e-12)


@pytest.mark.parametrize(("law", "most"), [("multiplicative", 0.1), ("additive", 0.05)])
def test_the_noise_is_uniform_and_independent_for_each_parameter(law, most):
    record, samples = drawn(small(perturb=law, delta=0.1, points=200), 3, 2_000)
    base = np.array(record["base"])
    noise = samples.facts["system"] / base - 1 if law == "multiplicative" else samples.facts["system"] - base
    noise = noise.reshape(len(noise), 12) / most
    assert samples.facts["redraws"].max() == 0
    assert abs(noise).max() <= 1 + 1e-9
    histogram = np.array([np.histogram(column, bins=10, range=(-1, 1))[0] for column in noise.T])
    assert (abs(histogram - 200) < 5 * np.sqrt(200)).all()
    assert (abs(np.corrcoef(noise.T) - np.eye(12)) < 0.12).all()


def test_perturbations_are_the_same_draws_at_every_delta():
    record, narrow = drawn(small(delta=0.01), 1, 10)
    _, wide = drawn(small(delta=0.04), 1, 10)
    base = np.array(record["base"])
    assert (narrow.facts["redraws"] == wide.facts["redraws"]).all()
    assert 4 * (narrow.facts["system"] - base) == pytest.approx(wide.facts["system"] - base, abs=1e-12)


@pytest.mark.parametrize("law", ["multiplicative", "additive"])
def test_without_perturbation_images_differ_in_their_masks_only(law):
    nothing = {"perturb": law, "delta": 1e-30}  # 1 + 1e-30 is 1
    _, filled = drawn(small(mask="fill", **nothing), 2, 4)
    assert (filled.image_BHWC == filled.image_BHWC[0]).all()
    assert filled.image_BHWC.any()
    _, masked = drawn(small(mask="random", **nothing), 2, 4)
    assert not masked.image_BHWC[filled.image_BHWC == 0].any()
    assert (masked.image_BHWC[1:] != masked.image_BHWC[0]).any(axis=(1, 2, 3)).all()
    covered = masked.image_BHWC[filled.image_BHWC > 0]
    assert (covered > 0).mean() == pytest.approx(256 / 511, abs=0.05)


def test_every_image_is_a_class_of_its_own():
    source = small()
    assert [source.classes(images) for images in (1, 7, 1_000)] == [1, 7, 1_000]
    assert source.available() is None
    labels = source.open(0)(np.array([4, 0, 999_999])).label_B
    assert labels.tolist() == [4, 0, 999_999]


@pytest.mark.parametrize("mask", ["fill", "random"])
def test_an_image_can_be_drawn_again_from_its_facts(mask):
    record, samples = drawn(small(mask=mask, delta=0.4, pad_px=4), 9, 3)
    words = seeds.words(seeds.key("1p-frac mask", 9), np.arange(3), POINTS).astype(np.uint64)
    bits = (1 + words * 511 // 2**32).astype(int).tolist()
    for index, system in enumerate(samples.facts["system"]):
        masks = bits[index] if mask == "random" else [511] * POINTS
        expected = picture(system, record["probabilities"], POINTS, SIZE, 4, masks)
        assert (samples.image_BHWC[index, :, :, 0] == expected).all()


def test_the_record_holds_the_base_and_what_it_was_drawn_from():
    realised = []
    for seed in range(20):
        record = small(sigma=3.2, points=200, base_min_fill=0.0).open(seed).record
        values = np.linalg.svd(np.array(record["base"])[:, :4].reshape(-1, 2, 2), compute_uv=False)
        assert (values[:, 0] + 2 * values[:, 1]).sum() == pytest.approx(record["sigma"])
        assert record["probabilities"] == pytest.approx(ifs.probabilities(np.array(record["base"])))
        realised.append(record["sigma"])
    assert 3.1 <= min(realised) < 3.15
    assert 3.25 < max(realised) <= 3.3


def test_probabilities_are_those_of_the_base():
    record, samples = drawn(small(delta=0.9), 4, 5)
    assert all(
        ifs.probabilities(system) != pytest.approx(record["probabilities"]) for system in samples.facts["system"]
    )


def test_a_base_that_is_too_sparse_is_redrawn():
    redrawn = 0
    for seed in range(4):
        loose = small(mask="fill", base_min_fill=0.0).open(seed).record
        strict = small(mask="fill", base_min_fill=0.25).open(seed).record
        fills = [lit_share(record["base"], record["probabilities"]) for record in (loose, strict)]
        assert loose["base_redraws"] == 0
        assert fills[1] > 0.25
        assert (strict["base_redraws"] == 0) == (fills[0] > 0.25)
        redrawn += strict["base_redraws"] > 0
    assert redrawn


def lit_share(system, probabilities):
    return (picture(np.array(system), probabilities, POINTS, SIZE, 6, [511] * POINTS) > 0).mean()


def test_the_base_is_held_to_the_fill_of_the_images_where_none_is_given():
    for seed in range(4):
        one = small(min_fill=0.2).open(seed).record
        assert one == small(min_fill=0.0, base_min_fill=0.2).open(seed).record


def test_sparse_and_diverging_perturbations_are_redrawn_and_no_others():
    source = small(sigma=6.0, delta=1.0, min_fill=0.1, base_min_fill=0.1, mask="fill")
    record, samples = drawn(source, 2, 20)
    stream, diverged = seeds.key("1p-frac noise", 2), 0
    for index, redraws in enumerate(samples.facts["redraws"]):
        draw = seeds.uniform(stream, [index * 256], 12).reshape(2, 6)
        first = np.array(by_hand(record["base"], 1.0, "multiplicative", draw))
        assert (redraws > 0) == (lit_share(first, record["probabilities"]) <= 0.1)
        diverged += redraws > 0 and not np.isfinite(orbit(first, record["probabilities"], POINTS)[0]).all()
    assert diverged
    assert all(chaos.fill(image) > 0.1 for image in samples.image_BHWC)


def test_an_image_that_no_draw_fills_is_refused_and_named():
    reader = small(min_fill=0.95, base_min_fill=0.0, points=100).open(3)
    with pytest.raises(RenderError, match=r"image 5 of seed 3 .* 0.95, or diverges, in all of 256 draws at delta 0.1"):
        reader(np.array([5]))


def test_a_base_that_no_draw_fills_is_refused_and_named():
    with pytest.raises(RenderError, match=r"none of 1000 bases drawn from seed 2 fills more than 0.95"):
        small(base_min_fill=0.95, points=100).open(2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sigma": 6.1}, "sigma: at most 3 per map, so at most 6 for 2 maps; got 6.1"),
        ({"size_px": 20, "pad_px": 10}, "size_px: more than twice the border of 10 px; got 20"),
        ({"delta": 0.0}, "delta: must be"),
        ({"delta": 1.5}, "delta: must be"),
        ({"perturb": "aditive"}, "the nearest known name is 'additive'"),
    ],
)
def test_an_impossible_spec_is_refused(fields, says):
    with pytest.raises(SpecError) as caught:
        OnePFrac.parse(fields)
    assert says in str(caught.value)
