"""Images of a pool by their likeness to real ones."""

import numpy as np
import pytest

from scaleback.core.errors import SpecError
from scaleback.sources.named import Digits
from scaleback.sources.retrieved import Retrieved


def test_images_are_the_nearest_of_the_pool_in_rounds(tmp_path):
    source = Retrieved.example(tmp_path)
    samples = source.open(3)(np.arange(15))
    real = source.real.open(3)(np.arange(5))
    pool = source.pool.open(0)(np.arange(40)).image_BHWC.astype(int)
    for index in range(15):
        own = real.image_BHWC[index % 5].astype(int)
        distance = [((image - own) ** 2).sum() for image in pool]
        nearest = sorted(range(40), key=lambda place: (distance[place], place))[index // 5]
        assert (samples.image_BHWC[index] == pool[nearest]).all()
        assert samples.label_B[index] == real.label_B[index % 5]


def test_all_of_the_pool_is_found_in_the_end(tmp_path):
    source = Retrieved.example(tmp_path)
    samples = source.open(3)(np.arange(source.available()))
    for real in range(5):
        assert sorted(samples.facts["place"][samples.facts["real"] == real]) == list(range(40))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"pool_images": 500}, "pool_images: must be at most the"),
        ({"real_images": 5_000}, "real_images: must be at most the"),
        ({"pool": {"kind": "point-cloud", "size_px": 16}}, "pool: must give images of shape (8, 8, 1), as real"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, line):
    with pytest.raises(SpecError) as caught:
        Retrieved.example(tmp_path).replace(changes)
    assert str(caught.value).startswith(line)


def test_the_pool_does_not_change_with_the_seed(tmp_path):
    source = Retrieved.example(tmp_path)
    first, second = (source.open(seed)(np.arange(200)) for seed in (0, 1))
    assert not np.array_equal(first.image_BHWC[:5], second.image_BHWC[:5])
    assert {image.tobytes() for image in first.image_BHWC} == {image.tobytes() for image in second.image_BHWC}
    assert Digits(fold=(0, 2)).available() >= 5
