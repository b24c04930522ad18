"""What is watched of embeddings, by plain loops."""

import math

import numpy as np
import pytest
import torch

from scaleback.objectives.learners.statistics import entropy, pair_statistics, perplexity


def embeddings(images=6, width=4):
    return np.random.default_rng(0).standard_normal((2, images, width))


def unit(row):
    return row / math.sqrt(sum(value**2 for value in row))


def test_statistics_of_pairs_are_those_of_plain_loops():
    first, second = ([unit(row) for row in view] for view in embeddings())
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    potential = [math.exp(-2 * sum((view[i] - view[j]) ** 2)) for view in (first, second) for i, j in pairs]
    expected = {
        "positive_similarity": np.mean([first[i] @ second[i] for i in range(6)]),
        "alignment": np.mean([sum((first[i] - second[i]) ** 2) for i in range(6)]),
        "negative_similarity": np.mean([first[i] @ second[j] for i, j in pairs]),
        "uniformity": math.log(np.mean(potential)),
    }
    found = pair_statistics(*torch.from_numpy(embeddings()))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-5), name


def test_equal_embeddings_are_aligned_and_not_uniform():
    found = pair_statistics(torch.ones(5, 3), 2 * torch.ones(5, 3))
    assert found["alignment"].item() == pytest.approx(0, abs=1e-6)
    assert found["uniformity"].item() == pytest.approx(0, abs=1e-6)
    assert found["negative_similarity"].item() == pytest.approx(1)


def test_two_opposite_points_have_the_uniformity_of_their_distance():
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert pair_statistics(two, two)["uniformity"].item() == pytest.approx(-2 * 4, rel=1e-5)


def test_a_single_image_has_a_pair_and_no_negatives():
    assert pair_statistics(torch.ones(1, 3), torch.ones(1, 3)).keys() == {"positive_similarity", "alignment"}


def test_statistics_carry_no_gradient():
    value = torch.ones(3, 2, requires_grad=True)
    assert not any(part.requires_grad for part in pair_statistics(value, value).values())
    assert not entropy(value.softmax(1)).requires_grad


def test_entropy_is_the_mean_in_nats():
    chance = [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]
    nats = [-sum(p * math.log(p) for p in row if p) for row in chance]
    assert entropy(torch.tensor(chance)).item() == pytest.approx(sum(nats) / 2)
    assert entropy(torch.full((2, 8), 1 / 8)).item() == pytest.approx(math.log(8))


def test_perplexity_counts_the_tokens_that_are_used():
    assert perplexity(torch.tensor([[3, 3], [3, 3]]), 10).item() == pytest.approx(1)
    assert perplexity(torch.arange(6), 10).item() == pytest.approx(6)
    share = [0.5, 0.25, 0.25]
    expected = math.exp(-sum(p * math.log(p) for p in share))
    assert perplexity(torch.tensor([0, 0, 1, 2]), 3).item() == pytest.approx(expected)
