import os

import pytest

from scaleback.cluster.render import MOST_BLOCKS_A_TASK, guided_tasks, render, sizes_of
from scaleback.core.errors import RunError
from scaleback.core.store import Store
from scaleback.sources.named import Digits
from scaleback.sources.perlin import Perlin
from scaleback.sources.population import Block, Population, load_images, missing_blocks, render_block

pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.mark.parametrize("places", [1, 2, 7, 100])
def test_tasks_get_shorter_and_hold_every_block_once(places):
    population = Population.of(Digits(), 0)
    sizes = [64, 64, 128, 256, 512, *[1_024] * 60, 200]
    blocks = [(population, Block(number, 0, size)) for number, size in enumerate(sizes)]
    tasks = guided_tasks(blocks, sizes_of(blocks), places)
    assert sorted(block.number for task in tasks for _, block in task) == list(range(len(sizes)))
    images = [sum(block.stop for _, block in task) for task in tasks]
    assert images == sorted(images, reverse=True)
    assert max(map(len, tasks)) <= MOST_BLOCKS_A_TASK
    assert images[-1] <= 1_024
    # No task is longer than what its place would have to wait for at the end.
    for number, count in enumerate(images):
        assert count <= max(1_024, sum(images[number:]) / places)
    assert guided_tasks(blocks[:1], sizes_of(blocks[:1]), places) == [blocks[:1]]


def test_populations_come_in_the_order_in_which_they_are_asked_for():
    first, second = (Population.of(Digits(), seed) for seed in (1, 0))
    blocks = [(one, Block(number, 0, size)) for one in (first, second) for number, size in enumerate([64, 1_024])]
    tasks = guided_tasks(blocks, sizes_of(blocks), 100)
    assert [(one, block.number) for task in tasks for one, block in task] == [
        (first, 1),
        (first, 0),
        (second, 1),
        (second, 0),
    ]


def files(store, folder="render"):
    return {name: store.get(name) for name in store.files(folder) if name.endswith(".arrow")}


def test_ray_draws_what_one_process_draws_and_draws_it_once(tiny, store, tmp_path):
    population, images = Population.of(tiny.base.source, 7), 200
    alone = Store(tmp_path / "alone")
    for block in missing_blocks(alone, population, images):
        render_block(alone, population, block)
    seen = []
    assert render(store, [(population, images)], progress=lambda done, total: seen.append((done, total))) == {}
    assert files(store) == files(alone)
    assert len(files(store)) == len(population.blocks(images))
    assert seen[0] == (0, 256)
    assert seen[-1] == (256, 256)

    stamps = {name: os.stat(store.path(name)).st_mtime_ns for name in store.files("render")}
    assert render(store, [(population, images)], progress=lambda *_: pytest.fail("drawn again")) == {}
    assert {name: os.stat(store.path(name)).st_mtime_ns for name in store.files("render")} == stamps


def test_a_population_that_cannot_be_drawn_stops_no_other(tiny, store):
    # No system covers 99 % of its image, so every redraw is refused.
    hopeless = Population.of(tiny.base.source.replace({"base_min_fill": 0.99}), 0)
    good = Population.of(tiny.base.source, 0)
    failed = render(store, [(hopeless, 4), (good, 4)])
    assert list(failed) == [hopeless.address]
    assert isinstance(failed[hopeless.address], RunError)
    assert store.failure(hopeless.address)["error"] == "RenderError"
    assert store.failure(hopeless.address)["lasting"]
    assert missing_blocks(store, good, 4) == []


def test_blocks_of_unlike_populations_share_a_task(tiny, store):
    # More blocks than tasks; their specs have no field in common but the kind.
    wanted = [(Population.of(tiny.base.source, seed), 150) for seed in range(3)]
    wanted += [(Population.of(Digits(), seed), 150) for seed in range(3)]
    wanted += [(Population.of(Perlin(size_px=16, cells=2, octaves=2), seed), 150) for seed in range(3)]
    assert render(store, wanted) == {}
    for population, images in wanted:
        assert missing_blocks(store, population, images) == []
        assert len(load_images(store, population, images)) == images
