"""The samplers of systems: their rules, not their code."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scaleback.core import seeds
from scaleback.sources import ifs


@given(maps=st.integers(1, 8), share=st.floats(0.001, 1), seed=st.integers(0, 2**31))
@example(maps=2, share=0.9999999999999999, seed=4)  # rounding leaves no room
def test_singular_values_sum_to_sigma_and_contract(maps, share, seed):
    sigma = 3 * maps * share
    values = ifs.singular_values(seeds.generator("test", seed), maps=maps, sigma=sigma)
    assert values.shape == (maps, 2)
    assert (values >= -1e-12).all()
    assert (values <= 1 + 1e-12).all()
    assert (values[:, 1] <= values[:, 0] + 1e-12).all()
    assert (values[:, 0] + 2 * values[:, 1]).sum() == pytest.approx(sigma, abs=1e-9)


@given(seed=st.integers(0, 2**31), maps=st.integers(2, 4))
def test_a_sigma_system_has_its_singular_values(seed, maps):
    system = ifs.sigma_system(seeds.generator("test", seed), maps=maps, sigma=(5.5 + maps) / 2)
    values = np.linalg.svd(system[:, :4].reshape(-1, 2, 2), compute_uv=False)
    assert (values[:, 0] + 2 * values[:, 1]).sum() == pytest.approx((5.5 + maps) / 2)
    assert (abs(system[:, 4:]) <= 1).all()


def test_reflections_and_rotations_both_occur():
    rng = seeds.generator("test", 0)
    signs = [np.sign(np.linalg.det(ifs.sigma_system(rng, maps=2, sigma=3.5)[0, :4].reshape(2, 2))) for _ in range(200)]
    assert 60 < sum(sign > 0 for sign in signs) < 140


@pytest.mark.parametrize("sigma", [0.0, -1.0, 6.01])
def test_a_sum_out_of_range_is_refused(sigma):
    with pytest.raises(ValueError, match="at most 6"):
        ifs.singular_values(seeds.generator("test", 0), maps=2, sigma=sigma)


def test_probabilities_follow_the_determinants():
    system = np.array([[1, 0, 0, 1, 0, 0], [0.5, 0, 0, 0.5, 0, 0], [1, 2, 0.5, 1, 0, 0]], float)
    assert ifs.probabilities(system) == pytest.approx([0.8, 0.2, 0.0])


def test_flat_systems_choose_evenly():
    assert ifs.probabilities(np.zeros((4, 6))) == pytest.approx([0.25] * 4)


@given(seed=st.integers(0, 2**31), delta=st.floats(0.001, 1))
def test_perturbations_stay_in_their_box(seed, delta):
    rng = seeds.generator("test", seed)
    system, draw = rng.uniform(-1, 1, (2, 6)), rng.random((2, 6))
    multiplied, shifted = ifs.multiplied(system, delta, draw), ifs.shifted(system, delta, draw)
    assert (abs(multiplied - system) <= delta * abs(system) + 1e-12).all()
    assert (abs(shifted - system) <= delta / 2 + 1e-12).all()
    assert ifs.multiplied(np.zeros((2, 6)), delta, draw).tolist() == np.zeros((2, 6)).tolist()


def test_the_noise_laws_have_the_stated_spread():
    draw = seeds.uniform(1, np.arange(50_000), 1)
    ones = np.ones_like(draw)
    assert ifs.multiplied(ones, 0.3, draw).std() == pytest.approx(0.3 / np.sqrt(3), rel=0.02)
    assert ifs.shifted(ones, 0.3, draw).std() == pytest.approx(0.3 / np.sqrt(12), rel=0.02)


def test_fractaldb_weights():
    weights = ifs.fractaldb_weights(0.4)
    assert weights.shape == (25, 6)
    assert weights[0] == pytest.approx([0.2, 1, 1, 1, 1, 1])
    assert weights[2] == pytest.approx([1] * 6)
    assert ((weights != 1).sum(axis=1) <= 1).all()
    assert sorted(set(weights.ravel().round(6))) == [0.2, 0.6, 1.0, 1.4, 1.8]
    assert [(weights[:, parameter] != 1).sum() for parameter in range(6)] == [4] * 6


def test_candidates_have_two_to_seven_maps():
    rng = seeds.generator("test", 1)
    systems = [ifs.uniform_system(rng) for _ in range(300)]
    assert {len(system) for system in systems} == {2, 3, 4, 5, 6, 7}
    assert all((abs(system) <= 1).all() for system in systems)
