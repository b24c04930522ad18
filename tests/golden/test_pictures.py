"""Checksums of whole pictures at the published sizes, drawn by the plain Python reference of ``tests/sources``.

The reference takes seconds for a picture, so what it drew is written out; the exact renderers must draw the same.
After a change of the reference, write the file anew:

    .venv/bin/python -m tests.golden.test_pictures
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from scaleback.core import seeds
from scaleback.sources import ifs
from tests.sources.reference import picture

FILE = Path(__file__).with_name("pictures.json")
KEY, POINTS, SIZE, PAD = seeds.key("golden pictures", 0), 100_000, 512, 6


def systems():
    rng = seeds.generator("golden systems", 0)
    found = {f"sigma {sigma} of 2 maps": ifs.sigma_system(rng, maps=2, sigma=sigma) for sigma in (3.5, 4.5, 5.5)}
    found["sigma at its bound"] = ifs.sigma_system(rng, maps=2, sigma=6.0)
    found["7 maps"] = ifs.sigma_system(rng, maps=7, sigma=10.0)
    found["one map"] = ifs.sigma_system(rng, maps=1, sigma=2.9)
    found["perturbed with delta 1"] = ifs.multiplied(found["sigma 3.5 of 2 maps"], 1.0, rng.random((2, 6)))
    found["a determinant of zero"] = np.array([[0.5, 0.2, 0.5, 0.2, 0.1, 0.4], [0.6, -0.3, 0.2, 0.5, -0.3, 0.2]])
    found["leaves the range of numbers"] = np.array([[2.0, -0.5, 0.5, 2.0, 1, 1]])
    return found


def checksum(image_HW):
    return hashlib.sha256(np.ascontiguousarray(image_HW).tobytes()).hexdigest()


def reference():
    for index, (name, system) in enumerate(systems().items()):
        masks = [1 + int(word) * 511 // 2**32 for word in seeds.words(KEY, [index], POINTS)[0]]
        yield name, checksum(picture(system, ifs.probabilities(system), POINTS, SIZE, PAD, masks))


@pytest.mark.parametrize("canvas", ["chaos.Canvas", "chaos_exact.ExactCanvas"])
def test_the_exact_renderers_draw_what_the_reference_drew(canvas):
    from scaleback.sources.kernels import chaos, chaos_exact

    expected, drawn = json.loads(FILE.read_text()), systems()
    chances = [ifs.probabilities(system) for system in drawn.values()]
    kind = {"size_px": SIZE, "points": POINTS, "pad_px": PAD, "stamp": "random"}
    if canvas == "chaos.Canvas":
        images = chaos.Canvas(**kind, colour=False).draw_batch(list(drawn.values()), chances, KEY, range(len(drawn)))
    else:
        lanes = chaos_exact.ExactCanvas(**kind)
        bits = lanes.draw_batch(list(drawn.values()), chances, KEY, range(len(drawn)))
        images = lanes.samples(bits, np.zeros(len(drawn), np.int64), {}).image_BHWC
    assert {name: checksum(image) for name, image in zip(drawn, images, strict=True)} == expected
    assert len(set(expected.values())) == len(expected)


if __name__ == "__main__":
    FILE.write_text(json.dumps(dict(reference()), indent=1) + "\n")
