"""Laws of every source; a registry line is what adds the tests."""

import pickle

import numpy as np
import pytest

from scaleback.adapt.run import learn
from scaleback.core.errors import InputError
from scaleback.core.store import Store
from scaleback.sources import REAL_SOURCES, SOURCES
from scaleback.sources.base import UNLABELLED
from scaleback.sources.population import Population, load_images, missing_blocks, render_block

IMAGES = 9


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module", params=SOURCES)
def source(request, scratch):
    if request.param == "huggingface":
        pytest.importorskip("datasets")
    return SOURCES[request.param].example(scratch)


@pytest.fixture(scope="module")
def count(source):
    available = source.available()
    return IMAGES if available is None else min(IMAGES, available)


@pytest.fixture(scope="module")
def learnt(source, scratch):
    """A store with what the source must have learnt."""
    store = Store(scratch / "learnt")
    learn(source, 3, store)
    return store


@pytest.fixture(scope="module")
def samples(source, count, learnt):
    return source.open_with(3, learnt)(np.arange(count))


def test_an_image_depends_on_its_index_only(source, samples, count, learnt):
    again = source.open_with(3, learnt)
    for index in (count - 1, 0):
        alone = again(np.array([index]))
        difference = abs(alone.image_BHWC[0].astype(int) - samples.image_BHWC[index])
        assert difference.max() <= source.tolerance
        assert (alone.label_B[0] == samples.label_B[index]).all()
        for name, value in samples.facts.items():
            np.testing.assert_array_equal(alone.facts[name][0], value[index])


def test_order_within_a_batch_does_not_matter(source, samples, count, learnt):
    backwards = source.open_with(3, learnt)(np.arange(count)[::-1].copy())
    assert (backwards.image_BHWC[::-1] == samples.image_BHWC).all()


def test_shape_type_and_labels_are_as_declared(source, samples, count):
    assert samples.image_BHWC.shape == (count, *source.shape)
    assert samples.image_BHWC.dtype == np.uint8
    assert samples.label_B.dtype == np.int64
    assert samples.label_B.shape == ((count,) if source.labels_an_image == 1 else (count, source.labels_an_image))
    classes = source.classes(count)
    for label_I in samples.label_B.reshape(count, -1):
        known_I = label_I[label_I != UNLABELLED]
        if classes is None:
            assert len(known_I) == 0
        else:
            assert len(known_I) > 0
            assert known_I.min() >= 0
            assert known_I.max() < classes
            assert known_I.tolist() == sorted(set(known_I))
            assert (label_I[len(known_I) :] == UNLABELLED).all()


def test_no_image_is_blank(samples):
    assert samples.image_BHWC.any(axis=(1, 2, 3)).all()


def test_a_spec_survives_pickling_and_plain_data(source):
    assert pickle.loads(pickle.dumps(source)) == source
    assert type(source).parse(source.plain()) == source


def test_an_unknown_field_is_refused(source):
    with pytest.raises(InputError, match="unknown field"):
        type(source).parse({**source.plain(), "colour_of_the_sky": 1})


def test_facts_have_one_row_an_image(samples, count):
    assert all(len(value) == count for value in samples.facts.values())


def test_blocks_give_back_what_was_made(source, samples, count, learnt):
    population = Population.of(source, 3)
    for block in missing_blocks(learnt, population, count):
        render_block(learnt, population, block)
    images = load_images(learnt, population, count)
    if population.seed == 3:
        assert (images.image_NHWC == samples.image_BHWC).all()
        assert (images.label_N == samples.label_B).all()
    assert missing_blocks(learnt, population, count) == []
    few = load_images(learnt, population, max(1, count // 2))
    assert (few.image_NHWC == images.image_NHWC[: len(few)]).all()


def test_more_than_available_is_refused(source):
    available = source.available()
    if available is None:
        pytest.skip("endless")
    with pytest.raises(InputError, match=r"has .* images"):
        Population.of(source, 0).blocks(available + 1)


@pytest.mark.parametrize("kind", REAL_SOURCES)
def test_splits_of_real_data_do_not_meet(kind, scratch):
    if kind == "huggingface":
        pytest.importorskip("datasets")
    source = REAL_SOURCES[kind].example(scratch)
    test = source.as_test()
    assert test.class_count() == source.class_count()
    assert test.population_seed(5) == 0
    assert source.population_seed(5) == 5
    assert source.model_copy(update={"order": 2}).population_seed(5) == 2


@pytest.mark.parametrize("kind", REAL_SOURCES)
def test_every_prefix_is_balanced(kind, scratch):
    if kind in ("huggingface", "torchvision", "members"):
        pytest.skip("its example is not balanced")
    source = REAL_SOURCES[kind].example(scratch)
    count = min(40, source.available())
    label_N = source.open(1)(np.arange(count)).label_B
    for length in range(1, count + 1):
        present = np.bincount(label_N[:length], minlength=source.class_count())
        assert present.max() - present.min() <= 1


@pytest.mark.parametrize("kind", REAL_SOURCES)
def test_seeds_draw_different_orders(kind, scratch):
    if kind == "huggingface":
        pytest.importorskip("datasets")
    source = REAL_SOURCES[kind].example(scratch)
    first, second = (source.open(seed)(np.arange(source.available())) for seed in (1, 2))
    assert sorted(first.facts["place"]) == sorted(second.facts["place"])
    assert (first.facts["place"] != second.facts["place"]).any()
