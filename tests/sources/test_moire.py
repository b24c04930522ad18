"""Moiré against plain Python and against its closed form."""

import math

import numpy as np
import pytest

from scaleback.core.errors import SpecError
from scaleback.sources.moire import Moire

COUNT = 6


def layers(facts, number):
    """(row, column, cycles, phase) of each layer of an image."""
    for layer in range(facts["layers"][number]):
        yield (*facts["centre"][number, layer], facts["cycles"][number, layer], facts["phase"][number, layer])


def by_hand(size, combine, layers):
    cosine = [round(math.cos(2 * math.pi * step / 4_096) * 2**14) for step in range(4_096)]
    layers = [
        (down * size - 0.5, across * size - 0.5, cycles * 4_096 / size, phase * 4_096)
        for down, across, cycles, phase in layers
    ]
    rows = []
    for row in range(size):
        rows.append([])
        for column in range(size):
            waves = []
            for down, across, steps, phase in layers:
                distance = math.sqrt((row - down) * (row - down) + (column - across) * (column - across))
                waves.append(cosine[int(steps * distance + phase) % 4_096])
            if combine == "mean":
                total, most = sum(waves), 2**14 * len(waves)
            else:
                total, most = 2**14, 2**14
                for wave in waves:
                    total = total * wave // 2**14
            rows[-1].append((255 * (total + most) + most) // (2 * most))
    return rows


@pytest.mark.parametrize("combine", ["product", "mean"])
def test_images_are_those_of_the_reference(combine):
    source = Moire(size_px=33, cycles=(1.0, 16.0), layers=(1, 5), combine=combine)
    samples = source.open(3)(np.arange(COUNT))
    for number, image in enumerate(samples.image_BHWC):
        assert image[:, :, 0].tolist() == by_hand(33, combine, list(layers(samples.facts, number)))


def test_a_product_is_its_closed_form_but_for_rounding():
    samples = Moire(size_px=64, cycles=(1.0, 20.0)).open(0)(np.arange(COUNT))
    at = (np.arange(64) + 0.5) / 64
    for number, image in enumerate(samples.image_BHWC[..., 0]):
        value = np.ones((64, 64))
        for down, across, cycles, phase in layers(samples.facts, number):
            distance = np.hypot(at[:, None] - down, at - across)
            value *= np.cos(2 * np.pi * (cycles * distance + phase))
        assert abs(image - 127.5 * (1 + value)).max() < 1.5


def test_layers_are_drawn_from_their_ranges_and_absent_ones_are_nan():
    facts = Moire(size_px=8, cycles=(0.5, 4.0), layers=(2, 4), reach=1.5).open(0)(np.arange(2_000)).facts
    assert np.bincount(facts["layers"]).tolist()[:2] == [0, 0]
    assert np.bincount(facts["layers"])[2:] / 2_000 == pytest.approx(np.full(3, 1 / 3), abs=0.05)
    absent = np.arange(4) >= facts["layers"][:, None]
    for name in ("cycles", "phase"):
        assert (np.isnan(facts[name]) == absent).all()
    assert (np.isnan(facts["centre"]) == absent[..., None]).all()
    octave = np.log2(facts["cycles"][~absent])
    assert octave.mean() == pytest.approx(0.5, abs=0.05)  # log-uniform from -1 to 2
    assert octave.std() == pytest.approx(3 / 12**0.5, rel=0.05)
    assert (facts["cycles"][~absent] * 1_024 % 1 == 0).all()
    assert (abs(facts["centre"][~absent] - 0.5) <= 1.5).all()
    assert facts["centre"][~absent].std() == pytest.approx(3 / 12**0.5, rel=0.05)


def test_fringes_have_no_classes():
    source = Moire.example(None)
    assert source.classes(9) is None
    assert source.available() is None


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        ({"layers": [3, 2]}, "layers: must be a range within 1 to 16; got (3, 2)"),
        (
            {"cycles": [1.0, 300.0]},
            "cycles: must be a range from 0.0009765625 to half a period a pixel, 256; got (1.0, 300.0)",
        ),
        ({"channels": 3}, "channels: unknown value, known are 1; got '3'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(plain, line):
    with pytest.raises(SpecError) as caught:
        Moire.parse(plain)
    assert str(caught.value) == line
