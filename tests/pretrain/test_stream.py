"""Images drawn while training reads them: the same images, drawn anew where a source says so, and nothing stored."""

import threading
import time

import numpy as np
import pytest

from scaleback.core.ahead import ahead
from scaleback.core.errors import RenderError, SpecError
from scaleback.core.store import Store
from scaleback.pretrain.run import CURVE, WEIGHTS, run_pretrain
from scaleback.pretrain.world import World
from scaleback.sources import SOURCES
from scaleback.sources.fractaldb import OFDB
from scaleback.sources.mixture import Mixture
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.population import Population, Stream, missing_blocks, render_block
from scaleback.study.files import changed, load_study
from scaleback.study.plan import plan_study
from tests.pretrain.test_run import IMAGES, SEED, pretrain

FRACTAL = OnePFrac(size_px=24, points=2_000, min_fill=0.02, delta=0.3)
OFDB_48 = OFDB(categories=3, points=20_000, size_px=48)
FRESH = [
    FRACTAL.replace({"mask": "fresh"}),
    OFDB_48.replace({"augment": "pattern"}),
    OFDB_48.replace({"augment": "texture"}),
]


def published(store, spec, manifest):
    assert store.manifest(spec.address, spec) == manifest
    return [store.read(manifest, name) for name in (WEIGHTS, CURVE)]


@pytest.mark.parametrize("source", [FRACTAL, OFDB_48, "digits"])
def test_a_streamed_run_is_the_stored_run_to_the_bit(source, store, tmp_path, tiny_vit):
    population = Population.of(SOURCES[source]() if isinstance(source, str) else source, SEED)
    images = min(IMAGES, population.source.available() or IMAGES)
    spec = pretrain(tiny_vit, population=population, images=images)
    for block in missing_blocks(store, population, images):
        render_block(store, population, block)
    stored = run_pretrain(spec, store, World())
    empty = Store(tmp_path / "empty")
    streamed = run_pretrain(spec, empty, World(), stream=True)
    assert published(store, spec, stored) == published(empty, spec, streamed)
    assert [stored.record["streamed"], streamed.record["streamed"]] == [False, True]
    assert empty.addresses("render") == []


def test_a_streamed_run_stopped_and_started_again_publishes_the_same_bytes(store, tmp_path, tiny_vit):
    spec = pretrain(tiny_vit, population=Population.of(FRESH[0], SEED))
    whole = Store(tmp_path / "whole")
    expected = published(whole, spec, run_pretrain(spec, whole, World()))

    def report(row):
        if row["images_seen"] > 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pretrain(spec, store, World(), checkpoint_every_s=0.0, report=report)
    assert published(store, spec, run_pretrain(spec, store, World())) == expected


@pytest.mark.parametrize("source", FRESH, ids=lambda source: f"{source.short}-{source.plain()}"[:40])
def test_a_fresh_source_keeps_its_shapes_and_redraws_the_rest(source):
    index = np.array([0, 2, 1, 2])
    reader = source.open(3)
    first, second = (reader.anew(index, np.full(4, epoch)) for epoch in (0, 1))
    assert (reader(index).image_BHWC == first.image_BHWC).all()
    assert (first.label_B == second.label_B).all()
    for name, value in first.facts.items():
        np.testing.assert_array_equal(value, second.facts[name])
    assert (first.image_BHWC != second.image_BHWC).any(axis=(1, 2, 3)).all()
    # What is drawn depends on the index and the pass, not on the batch nor on what was drawn before.
    mixed = source.open(3).anew(index, np.array([1, 0, 1, 1]))
    for place, epoch in enumerate([1, 0, 1, 1]):
        assert (mixed.image_BHWC[place] == (first, second)[epoch].image_BHWC[place]).all()
    # Over many passes every image lights what its fractal covers, and nothing else.
    passes = np.stack([reader.anew(index, np.full(4, epoch)).image_BHWC for epoch in range(12)]) > 0
    again = np.stack([reader.anew(index, np.full(4, epoch)).image_BHWC for epoch in range(12, 24)]) > 0
    assert (passes.any(axis=0) == again.any(axis=0)).mean() > 0.99


def test_fresh_masks_change_no_fractal_that_other_masks_would_accept():
    # At this fill some images are redrawn; which, the first pass decides.
    source = FRACTAL.replace({"min_fill": 0.08, "base_min_fill": 0.02, "mask": "fresh"})
    index = np.arange(60)
    first = source.open(1)(index)
    assert first.facts["redraws"].any()
    later = source.open(1).anew(index, np.full(60, 9))
    assert (later.facts["system"] == first.facts["system"]).all()


def test_fresh_sources_are_refused_where_they_cannot_be():
    with pytest.raises(SpecError, match=r"^augment: must be none to draw point_gray; got 'texture'$"):
        OFDB.parse({"draw": "point_gray", "augment": "texture"})
    with pytest.raises(SpecError, match=r"^second: must give images that stay as they are; got '1p-frac'$"):
        Mixture.parse({"first": FRACTAL.plain(), "second": FRESH[0].plain(), "share": 0.5, "labels": "shared"})


def test_a_stream_that_cannot_be_drawn_ends_the_run(store, tiny_vit):
    hopeless = FRACTAL.replace({"min_fill": 0.9, "base_min_fill": 0.0})
    spec = pretrain(tiny_vit, population=Population.of(hopeless, SEED))
    with pytest.raises(RenderError, match=r"1p-frac: image \d+ of seed 4 stays at or below a fill of 0.9"):
        run_pretrain(spec, store, World(), stream=True)


def test_a_plan_renders_nothing_that_is_streamed(store):
    study = changed(load_study("scaling_sweep"), fields={"seeds": [0, 1]})
    stored, streamed = (plan_study(study, store, stream=stream) for stream in (False, True))
    kinds = [{population.source.short for population, _ in plan.images.values()} for plan in (stored, streamed)]
    assert kinds == [{"1p-frac", "digits"}, {"digits"}]
    fresh = changed(study, settings=["source.mask=fresh"])
    assert {population.source.short for population, _ in plan_study(fresh, store).images.values()} == {"digits"}


def test_a_stream_has_the_length_and_the_classes_of_its_images(store):
    stream = Stream(Population.of(FRACTAL, 0), 7, store)
    assert (len(stream), stream.classes) == (7, 7)


def test_ahead_keeps_order_and_computes_no_more_than_asked_ahead():
    begun = []

    def square(number):
        begun.append(number)
        return number**2

    results = ahead(square, iter(range(100)), depth=3)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    time.sleep(0.05)
    assert len(begun) <= 5 + 3
    assert list(results) == [number**2 for number in range(5, 100)]
    assert list(ahead(square, iter([]))) == []


def test_ahead_passes_on_what_is_raised_and_leaves_no_thread():
    before = threading.active_count()
    results = ahead(lambda number: 1 // (3 - number), iter(range(9)))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    left = ahead(lambda number: number, iter(range(9)))
    next(left)
    left.close()
    assert threading.active_count() == before
