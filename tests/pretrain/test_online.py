"""The kNN along the way: against plain loops, across a restart, over two workers."""

import math

import numpy as np
import pytest
import torch

from scaleback.core.errors import SpecError
from scaleback.objectives.classify import Classify
from scaleback.pretrain.loop import train
from scaleback.pretrain.online import NEIGHBOURS, TEMPERATURE, OnlineKNN
from scaleback.pretrain.world import World
from tests.pair import WORKERS
from tests.pretrain.test_loop import RECIPE, stopped_and_resumed, training
from tests.pretrain.test_run import pretrain

WIDTH, MEMORY, BATCH, BATCHES = 5, 30, 12, 6
REMEMBERING = RECIPE.replace({"online_knn": 13})  # no multiple of the batch of 8


def batches(classes=3, images=40):
    """Features that lie about their class's middle, of images that come again."""
    rng = np.random.default_rng(0)
    middle = rng.standard_normal((classes, WIDTH))
    for _ in range(BATCHES):
        index = rng.integers(0, images, BATCH)
        feature = middle[index % classes] + 1.2 * rng.standard_normal((BATCH, WIDTH))
        yield torch.from_numpy(feature), torch.from_numpy(index % classes), torch.from_numpy(index)


def accuracies(online, mine=slice(None)):
    found = []
    for feature, label, index in batches():
        online.add(feature[mine], label[mine], index[mine], scored=True)
        found.append(online.row()["online_knn"])
    return found


def by_hand(memory_length):
    """Lists and loops: the last so many features, the own image left out, votes weighted by exp(cosine / 0.07)."""
    memory, found = [], []
    for feature, label, index in batches():
        unit = [row / math.sqrt(sum(value**2 for value in row)) for row in feature.float().numpy()]
        right = 0
        for row, own_label, own_index in zip(unit, label.tolist(), index.tolist(), strict=True):
            others = [(float(row @ other), k) for other, k, number in memory if number != own_index]
            votes = {}
            for similarity, k in sorted(others, reverse=True)[:20]:
                votes[k] = votes.get(k, 0.0) + math.exp(similarity / 0.07)
            right += bool(votes) and max(votes, key=votes.get) == own_label
        found.append(right / len(unit))
        memory = [*memory, *zip(unit, label.tolist(), index.tolist(), strict=True)][-memory_length:]
    return found


@pytest.mark.parametrize("memory", [MEMORY, 12, 7, 1_000])
def test_the_accuracy_is_that_of_plain_loops(memory):
    found = accuracies(OnlineKNN(memory, WIDTH, World()))
    assert found == pytest.approx(by_hand(memory), abs=1e-6)
    assert found[0] == 0  # nothing is remembered yet
    if memory >= MEMORY:
        assert found[-1] > 0.5
    assert (NEIGHBOURS, TEMPERATURE) == (20, 0.07)


def test_an_image_s_own_features_do_not_vote():
    online = OnlineKNN(10, 2, World())
    online.add(torch.eye(2), torch.tensor([0, 1]), torch.tensor([7, 8]), scored=False)
    online.add(torch.tensor([[1.0, 0.1]]), torch.tensor([0]), torch.tensor([7]), scored=True)
    assert online.row() == {"online_knn": 0.0}  # only image 8, of class 1, may answer
    online.add(torch.tensor([[1.0, 0.1]]), torch.tensor([0]), torch.tensor([9]), scored=True)
    assert online.row() == {"online_knn": 1.0}


def test_the_memory_is_a_ring_of_the_latest():
    online = OnlineKNN(5, 1, World())
    for start in (0, 3, 6):
        index = torch.arange(start, start + 3)
        online.add(torch.ones(3, 1), index % 2, index, scored=False)
    assert sorted(online.tensors["index"].tolist()) == [4, 5, 6, 7, 8]
    assert online.tensors["label"].tolist() == [index % 2 for index in online.tensors["index"].tolist()]
    online.add(torch.ones(7, 1), torch.zeros(7, dtype=torch.int64), torch.arange(20, 27), scored=False)
    assert sorted(online.tensors["index"].tolist()) == [22, 23, 24, 25, 26]


def test_a_row_is_the_mean_since_the_last():
    online = OnlineKNN(10, 1, World())
    label, index = torch.tensor([1, 1]), torch.tensor([3, 4])
    online.add(torch.ones(2, 1), label, index, scored=True)
    online.add(torch.ones(2, 1), label, index, scored=True)
    assert online.row() == {"online_knn": 0.5}
    online.add(torch.ones(2, 1), label, index, scored=True)
    assert online.row() == {"online_knn": 1.0}


def test_a_run_that_remembers_resumes_bit_equal(tiny_vit, store):
    expected = train(training(tiny_vit, REMEMBERING), World())
    found = stopped_and_resumed(lambda: training(tiny_vit, REMEMBERING), store)
    assert found.rows == expected.rows
    assert found.save() == expected.save()
    assert all("online_knn" in row for row in found.rows)


def test_remembering_changes_nothing_else(tiny_vit):
    remembering, plain = (train(training(tiny_vit, recipe), World()) for recipe in (REMEMBERING, RECIPE))
    for one, other in zip(remembering.rows, plain.rows, strict=True):
        assert {name: value for name, value in one.items() if name != "online_knn"} == other


def member(rank, folder):
    online = OnlineKNN(MEMORY, WIDTH, World.joined(torch.device("cpu")))
    half = BATCH // WORKERS
    found = accuracies(online, slice(rank * half, (rank + 1) * half))
    torch.save({"found": found, **online.tensors}, folder / f"{rank}.pt")


def test_two_workers_remember_and_find_what_one_does(tmp_path, pair):
    pair(member, tmp_path)
    alone = OnlineKNN(MEMORY, WIDTH, World())
    expected = accuracies(alone)
    for rank in range(WORKERS):
        theirs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert theirs["found"] == pytest.approx(expected, abs=1e-6)
        assert all(torch.equal(value, theirs[name]) for name, value in alone.tensors.items())


def test_images_without_one_class_each_are_refused(tiny_vit):
    spec = pretrain(tiny_vit)
    plain = spec.replace({"recipe.online_knn": 8})
    assert plain.recipe.online_knn == 8
    several = {"kind": "multi-instance-fractals", "size_px": 64}
    with pytest.raises(SpecError, match=r"recipe.online_knn: needs images of one class each; got 8"):
        plain.replace({"population.source": several})


def test_labels_do_not_reach_the_gradient(tiny_vit):
    first, second = (
        training(tiny_vit, REMEMBERING, objective=Classify(labels="index")),
        training(tiny_vit, REMEMBERING, objective=Classify(labels="index")),
    )
    second.images.label_N[:] = 0
    states = [train(job, World()) for job in (first, second)]
    weights = [state.weights("") for state in states]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert states[0].rows[-1]["online_knn"] != states[1].rows[-1]["online_knn"]
