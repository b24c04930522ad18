"""Populations on storage: blocks that never change, of which any run takes the first n images."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleback.core.errors import DataError, DriftError, IntegrityError
from scaleback.core.store import Store
from scaleback.sources import population as population_module
from scaleback.sources.named import Digits
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.population import (
    FILE,
    LARGEST_BLOCK_BYTES,
    LARGEST_BLOCK_IMAGES,
    Population,
    load_images,
    missing_blocks,
    render_block,
)
from scaleback.sources.tables import Arrays

FRACTAL = OnePFrac(size_px=16, pad_px=4, points=300, min_fill=0.0)
MADE = Population.of(FRACTAL, 5)
FEW = settings(deadline=None, max_examples=60)


def rendered(store, population, images):
    for block in missing_blocks(store, population, images):
        render_block(store, population, block)


def file_of(store, population, number):
    return Path(store.path(f"{population.block_address(number)}/{FILE}"))


def test_blocks_double_from_64_to_the_largest():
    sizes = [block.stop - block.start for block in MADE.blocks(20_000)]
    assert sizes == [64, 64, 128, 256, 512, 1_024, 2_048, *4 * [4_096]]
    assert [block.number for block in MADE.blocks(20_000)] == list(range(11))


@given(images=st.integers(1, 100_000), more=st.integers(0, 50_000))
@FEW
def test_blocks_of_an_endless_source_cover_every_image_once_and_never_change(images, more):
    blocks = MADE.blocks(images)
    assert blocks[0].start == 0
    assert all(before.stop == after.start for before, after in pairwise(blocks))
    assert blocks[-1].start < images <= blocks[-1].stop
    assert MADE.blocks(images + more)[: len(blocks)] == blocks


@given(available=st.integers(1, 10_000), data=st.data())
@FEW
def test_blocks_of_a_finite_source_partition_its_images(available, data):
    images = data.draw(st.integers(1, available))
    every = list(population_module._blocks(64, available, available))
    assert [index for block in every for index in range(block.start, block.stop)] == list(range(available))
    some = list(population_module._blocks(64, images, available))
    assert some == every[: len(some)]
    assert some[-1].stop >= images


def test_a_block_of_bits_takes_a_bit_a_pixel(store):
    source = OnePFrac(size_px=120, points=300, min_fill=0.0)
    population = Population.of(source, 2)
    rendered(store, population, 64)
    assert source.image_bytes == 120 * 15
    assert file_of(store, population, 0).stat().st_size < 64 * source.image_bytes + 20_000
    assert (load_images(store, population, 9).image_NHWC == source.open(2)(np.arange(9)).image_BHWC).all()


def test_blocks_of_large_images_stay_within_memory():
    image_bytes = 512 * 512 * 3
    blocks = list(population_module._blocks(image_bytes, 10_000, None))
    most = max(block.stop - block.start for block in blocks)
    assert most * image_bytes <= LARGEST_BLOCK_BYTES
    assert most < LARGEST_BLOCK_IMAGES


def test_the_first_images_are_the_same_however_many_are_asked_for(store):
    rendered(store, MADE, 130)
    whole = load_images(store, MADE, 130)
    assert (whole.image_NHWC == FRACTAL.open(5)(np.arange(130)).image_BHWC).all()
    for images in (1, 63, 64, 65, 128, 129):
        part = load_images(store, MADE, images)
        assert len(part) == images
        assert (part.image_NHWC == whole.image_NHWC[:images]).all()
        assert (part.label_N == whole.label_N[:images]).all()
        assert part.classes == images


def test_more_images_cost_only_the_blocks_that_are_not_there(store):
    rendered(store, MADE, 64)
    assert missing_blocks(store, MADE, 10) == []
    assert [block.number for block in missing_blocks(store, MADE, 200)] == [1, 2]


def test_a_block_drawn_twice_has_the_same_bytes(tmp_path):
    found = []
    for name in ("a", "b"):
        population_module._reader.cache_clear()
        store = Store(tmp_path / name)
        rendered(store, MADE, 65)
        found.append([file_of(store, MADE, number).read_bytes() for number in (0, 1)])
    assert found[0] == found[1]


@pytest.mark.parametrize("place", [40, -2_000, -10])
def test_a_damaged_block_is_found_and_named_with_its_images_and_checksums(store, place):
    rendered(store, MADE, 70)
    file = file_of(store, MADE, 1)
    damaged = bytearray(file.read_bytes())
    damaged[place] ^= 1
    file.write_bytes(damaged)
    says = rf"^{file}: has checksum \w{{12}}; expected \w{{12}} \(images 64 to 127\)$"
    with pytest.raises(IntegrityError, match=says):
        load_images(store, MADE, 70)
    assert len(load_images(store, MADE, 64)) == 64  # the block before it is whole


def test_a_missing_block_is_named_with_its_images(store):
    rendered(store, MADE, 70)
    store.remove(MADE.block_address(0))
    with pytest.raises(IntegrityError, match=rf"{MADE.block_address(0)}: is missing \(images 0 to 63\)$"):
        load_images(store, MADE, 70)


def test_a_block_that_another_version_packed_is_told_from_a_damaged_one(store):
    block = MADE.blocks(1)[0]
    store.publish(MADE.block_address(0), {"images.parquet": b"PAR1"}, spec=MADE, record={})
    with pytest.raises(
        IntegrityError, match=rf"{MADE.block_address(0)}: is packed as another version packs; remove it"
    ):
        population_module.read_block(store, MADE, block)


def test_a_block_of_another_population_is_drift(store):
    rendered(store, MADE, 1)
    other = Population.of(FRACTAL, 6)
    address, spec = MADE.block_address(0), store.manifest(MADE.block_address(0)).spec
    assert Population.parse(spec) == MADE
    with pytest.raises(DriftError):
        store.manifest(address, other)


def test_identity_is_source_seed_and_files_and_not_the_number_of_images(tmp_path):
    assert Population.of(FRACTAL, 5).address == MADE.address
    assert Population.of(FRACTAL, 6).address != MADE.address
    assert Population.of(Digits(order=3), 1).address == Population.of(Digits(order=3), 2).address
    assert Population.of(Digits(split="test"), 1) == Population.of(Digits(split="test"), 2)
    paths = []
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "x.npz", x=np.full((10, 8, 8), value, np.uint8))
        paths.append(Population.of(Arrays(path=str(tmp_path / name / "x.npz")), 0))
    assert paths[0].origin != paths[1].origin


@given(images=st.integers(1, 60_000), size_px=st.sampled_from([16, 512, 2_048, 20_000]))
@FEW
def test_blocks_are_counted_as_they_are_listed(images, size_px):
    population = Population.of(FRACTAL.replace({"size_px": size_px}), 0)
    blocks = population.blocks(images)
    assert population.whole_blocks(images) == (len(blocks), blocks[-1].stop)
    few = Population.of(Digits(), 0)
    held = min(images, 797)
    assert few.whole_blocks(held) == (len(few.blocks(held)), few.blocks(held)[-1].stop)


def test_facts_and_labels_are_stored_beside_the_images(store):
    rendered(store, MADE, 64)
    table = pa.ipc.open_file(population_module.read_block(store, MADE, MADE.blocks(1)[0])).read_all()
    samples = FRACTAL.open(5)(np.arange(64))
    assert table["index"].to_pylist() == list(range(64))
    assert table["label"].to_pylist() == samples.label_B.tolist()
    stored = np.array(table["fact_system"].to_pylist())
    assert (stored == samples.facts["system"].reshape(64, -1)).all()
    record = store.manifest(MADE.block_address(0)).record
    assert record["population"]["base"] == FRACTAL.open(5).record["base"]
    assert (record["start"], record["stop"], record["shape"]) == (0, 64, [16, 16, 1])


def test_more_than_there_are_is_refused():
    with pytest.raises(DataError, match="has 797 images; asked for 798"):
        Population.of(Digits(), 0).blocks(798)
    assert Population.of(Digits(), 0).blocks(797)[-1].stop == 797
