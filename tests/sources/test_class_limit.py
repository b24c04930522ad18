"""Fewer classes of real images: which ones, under what labels, and the same ones in training and test."""

import numpy as np
import pytest
from PIL import Image

from scaleback.core import seeds
from scaleback.core.errors import DataError, Refusal
from scaleback.evaluations import Target
from scaleback.sources import REAL_SOURCES
from scaleback.sources.folder import Folder
from scaleback.sources.named import Digits
from scaleback.sources.population import Population
from scaleback.sources.tables import Arrays

SPLITS = "train", "test"
PLAIN = Digits()


def limited(limit, source=PLAIN, **fields):
    return source.model_copy(update={"class_limit": limit, **fields})


def everything(source, seed=5):
    return source.open(seed)(np.arange(source.available()))


def by_hand(order, limit):
    """The classes in the order of one 64-bit number each, from the definition of ``seeds.permutation``."""
    words = seeds.words(seeds.key("classes", order), np.arange(10), 2).astype(object)
    return sorted(range(10), key=lambda label: words[label][0] * 2**32 + words[label][1])[:limit]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("limit", [1, 3, 10])
@pytest.mark.parametrize("split", SPLITS)
def test_a_class_is_the_next_of_the_order_with_all_its_images(limit, order, split):
    source = limited(limit, split=split, class_order=order)
    whole, samples = everything(limited(None, split=split)), everything(source)
    chosen = by_hand(order, limit)
    for label, old in enumerate(chosen):
        new = {image.tobytes() for image in samples.image_BHWC[samples.label_B == label]}
        assert new == {image.tobytes() for image in whole.image_BHWC[whole.label_B == old]}
    assert len(samples.label_B) == np.isin(whole.label_B, chosen).sum() == source.available()
    assert source.classes(source.available()) == limit
    assert source.open(0).record["class_names"] == [str(label) for label in chosen]


def test_fewer_classes_are_a_part_of_more_with_the_same_labels_and_images():
    for fewer, more in ((2, 3), (3, 10)):
        few, many = (limited(limit).open(5)(np.arange(20 * limit)) for limit in (fewer, more))
        assert set(few.facts["place"]) == set(many.facts["place"][many.label_B < fewer])
        label_of = dict(zip(many.facts["place"], many.label_B, strict=True))
        assert [label_of[place] for place in few.facts["place"]] == few.label_B.tolist()


@pytest.mark.parametrize("limit", [2, 3, 7])
def test_n_images_of_each_class_are_the_first_n_times_classes(limit):
    for n in (1, 4, 20):
        label_B = limited(limit).open(2)(np.arange(n * limit)).label_B
        assert np.bincount(label_B).tolist() == [n] * limit


def test_no_limit_and_the_defaults_change_no_address():
    assert "class" not in str(PLAIN.canonical())
    assert limited(4).slug != PLAIN.slug
    assert limited(4).slug != limited(4, class_order=1).slug


@pytest.mark.parametrize("pinned", [None, 0, 3])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_training_and_test_have_the_same_classes_whatever_the_seed(seed, pinned):
    target = Target(data=limited(3, order=pinned), images=30)
    target.refuse_impossible()
    train, test = target.train_population(seed), target.test_population()
    opened = [population.source.open(population.seed) for population in (train, test)]
    names = [reader.record["class_names"] for reader in opened]
    assert names[0] == names[1] == [str(label) for label in by_hand(0, 3)]
    samples = [reader(np.arange(count)) for reader, count in zip(opened, (30, target.test_images), strict=True)]
    assert [sorted(set(one.label_B)) for one in samples] == [[0, 1, 2], [0, 1, 2]]


def test_labels_mean_the_same_in_both_splits(tmp_path):
    """Every class has a gray of its own, so a label can be checked by looking."""
    gray = np.repeat(np.arange(10, 250, 24, dtype=np.uint8), 12)
    np.savez(tmp_path / "grays.npz", x=np.broadcast_to(gray[:, None, None], (120, 16, 16)), y=np.arange(120) // 12)
    source = Arrays(path=str(tmp_path / "grays.npz"), class_limit=4, class_order=2)
    seen = []
    for split in SPLITS:
        samples = everything(source.model_copy(update={"split": split}), 9 if split == "train" else 0)
        seen.append(set(zip(samples.label_B.tolist(), samples.image_BHWC.max(axis=(1, 2, 3)).tolist(), strict=True)))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4


def test_a_class_order_draws_other_classes_and_every_class_in_turn():
    firsts = [limited(1, class_order=order).chosen_classes()[0] for order in range(300)]
    assert np.bincount(firsts, minlength=10).min() > 10


@pytest.mark.parametrize("kind", REAL_SOURCES)
def test_every_real_source_can_be_limited(kind, tmp_path):
    if kind == "huggingface":
        pytest.importorskip("datasets")
    source = limited(2, REAL_SOURCES[kind].example(tmp_path))
    assert source.class_count() == 2
    count = min(source.available(), 200)
    assert set(source.open(1)(np.arange(count)).label_B) <= {0, 1}
    assert 0 < source.available() <= source.own_images()
    with pytest.raises(DataError, match=r"has .* images"):
        Population.of(source, 0).blocks(source.available() + 1)


def test_more_classes_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"^class_limit: must be at most the 10 classes of the data; got 11$"):
        limited(11).available()


def test_a_limit_of_unlabelled_images_is_refused(tmp_path):
    Image.new("L", (16, 16), 9).save(tmp_path / "1.png")
    with pytest.raises(DataError, match="must be at most the 0 classes"):
        Folder(path=str(tmp_path), size_px=16, class_limit=1).available()


def test_splits_of_unlike_classes_are_refused_with_a_limit_too(tmp_path):
    """Three classes of which test lacks one: the two that are left would not be the same two."""
    for split, classes in (("train", "abc"), ("test", "ab")):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("L", (16, 16), 9).save(tmp_path / split / name / f"{number}.png")
    target = Target(data=Folder(path=str(tmp_path), size_px=16, class_limit=2), images=2)
    with pytest.raises(Refusal, match="must have the same classes in both splits, 3 in train; got 2"):
        target.refuse_impossible()
