"""Parts of the training images that never meet."""

import numpy as np
import pytest

from scaleback.core.errors import DataError, SpecError
from scaleback.sources.named import Digits
from scaleback.sources.population import Population

PARTS = 3


def places(source, seed):
    return source.open(seed)(np.arange(source.available())).facts["place"]


@pytest.mark.parametrize("seeds", [(0, 0, 0), (1, 5, 9)])
def test_parts_are_all_images_and_do_not_meet_whatever_the_seed(seeds):
    parts = [places(Digits(fold=(k, PARTS)), seed) for k, seed in zip(range(PARTS), seeds, strict=True)]
    together = np.concatenate(parts)
    assert len(together) == Digits().available() == len(set(together))


def test_parts_have_the_same_shares_of_classes():
    counts = []
    for k in range(PARTS):
        source = Digits(fold=(k, PARTS))
        counts.append(np.bincount(source.open(2)(np.arange(source.available())).label_B, minlength=10))
    assert np.ptp(counts, axis=0).max() <= 1


def test_an_order_within_a_part_is_that_of_the_whole():
    whole, part = places(Digits(), 4), places(Digits(fold=(1, PARTS)), 4)
    members = set(part)
    assert part.tolist() == [place for place in whole if place in members]


def test_an_image_of_a_part_is_called_by_its_own_place():
    source = Digits(fold=(1, PARTS), class_limit=4)
    assert source.image_names(4, source.available()) == [(str(place),) for place in places(source, 4)]


def test_a_part_has_fewer_images_and_the_whole_test_split():
    source = Digits(fold=(0, PARTS))
    assert source.available() == pytest.approx(Digits().available() / PARTS, abs=10)
    test = source.model_copy(update={"split": "test"})
    assert test.available() == Digits(split="test").available()
    with pytest.raises(DataError, match=r"has .* images"):
        Population.of(source, 0).blocks(source.available() + 1)


def test_with_a_limit_of_classes_a_part_is_of_these_classes():
    limited = [Digits(fold=(k, 2), class_limit=4) for k in range(2)]
    found = [places(source, 1) for source in limited]
    assert sorted(np.concatenate(found)) == sorted(places(Digits(class_limit=4), 1))


@pytest.mark.parametrize("fold", [(2, 2), (-1, 3), (0, 0)])
def test_a_part_that_is_none_is_refused(fold):
    with pytest.raises(SpecError, match=r"^fold: must be \(k, n\) with k from 0 to n - 1; got"):
        Digits.parse({"fold": list(fold)})
