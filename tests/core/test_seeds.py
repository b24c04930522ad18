"""Counter-based randomness: known answers, independence of order, uniformity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleback.core import seeds

# Known answers of Philox 4x32-10 that its authors publish with Random123: counter, key, result.
KNOWN = [
    ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, 0xFFFFFFFF_FFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        0x299F31D0_A4093822,
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_its_authors_answers(counter, key, expected):
    assert seeds.philox(key, np.array([counter], np.uint64)).tolist() == [expected]


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.integers(1, 9), st.integers(1, 9))
def test_a_draw_depends_on_its_index_and_slot_only(indices, slots, more):
    stream = seeds.key("test", 3)
    together = seeds.uniform(stream, indices, slots)
    alone = np.concatenate([seeds.uniform(stream, [index], slots + more)[:, :slots] for index in indices])
    assert (together == alone).all()


def test_uniform_is_uniform_and_streams_differ():
    first, second = (seeds.uniform(seeds.key("test", part), np.arange(20_000), 2) for part in (0, 1))
    assert 0 <= first.min() < 0.001
    assert 0.999 < first.max() < 1
    histogram, _ = np.histogram(first, bins=20, range=(0, 1))
    assert (abs(histogram - 2_000) < 5 * np.sqrt(2_000)).all()
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.03


@given(st.integers(0, 200), st.integers(0, 2**31))
def test_permutations_permute(length, seed):
    assert sorted(seeds.permutation(seeds.key("order", seed), length)) == list(range(length))


def test_parts_of_a_stream_are_told_apart():
    assert len({seeds.key("a", 1), seeds.key("a1"), seeds.key("a", "1"), seeds.key("a", 1, 0)}) == 4
