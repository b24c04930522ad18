"""What workers exchange, between two real processes (gloo): gradients are summed, batch norms see the whole batch."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from scaleback.objectives.learners.batch_norm import over_workers
from scaleback.objectives.learners.gather import (
    gathered,
    gathered_with_gradient,
    rank,
    summed,
    summed_with_gradient,
    workers,
)
from tests.pair import WORKERS

ROWS, CHANNELS = 3, 4
EXACT = {"rtol": 0, "atol": 1e-10}
NORMS = {
    "1d": (nn.BatchNorm1d, {}, ()),
    "1d of sequences": (nn.BatchNorm1d, {"momentum": 0.3}, (5,)),
    "1d without weights": (nn.BatchNorm1d, {"affine": False, "eps": 1e-3}, ()),
    "1d of a running mean": (nn.BatchNorm1d, {"momentum": None}, ()),
    "2d": (nn.BatchNorm2d, {}, (2, 3)),
    "2d without memory": (nn.BatchNorm2d, {"track_running_stats": False}, (2, 3)),
}
STEPS = 3


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


ALL = draw(WORKERS * ROWS, CHANNELS)
WEIGHTS = draw(WORKERS, WORKERS * ROWS, CHANNELS, seed=1)  # each worker's own loss looks at all rows


def part(value, number):
    return value[number * ROWS : (number + 1) * ROWS]


def norm(name):
    kind, fields, _ = NORMS[name]
    module = kind(CHANNELS, **fields).double()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(draw(CHANNELS, seed=seed + 5))
    return nn.Sequential(module)


def of_norm(name, module, mine):
    """Three steps of a batch norm on some rows: outputs, input gradients, and what it holds at the end."""
    shape, found = NORMS[name][2], {}
    for step in range(STEPS):
        value = mine(10 * step + (step + 1) * draw(WORKERS * ROWS, CHANNELS, *shape, seed=20 + step))
        value = value.clone().requires_grad_()
        result = module(value)
        (result * mine(draw(WORKERS * ROWS, CHANNELS, *shape, seed=40 + step))).sum().backward()
        found |= {f"output {step}": result.detach(), f"gradient {step}": value.grad}
    found |= {f"gradient of {key}": value.grad for key, value in module.named_parameters()}
    found |= dict(module.state_dict())
    module.eval()
    return found | {"evaluated": module(mine(draw(WORKERS * ROWS, CHANNELS, *shape, seed=60))).detach()}


def member(number, folder):
    found = {"workers": workers(), "rank": rank()}
    for name, collective in {"gather": gathered_with_gradient, "sum": summed_with_gradient}.items():
        mine = part(ALL, number).clone().requires_grad_()
        value = collective(mine)
        weight = WEIGHTS[number] if name == "gather" else part(WEIGHTS[number], 0)
        (weight * value.square()).sum().backward()
        found[name], found[f"{name} gradient"] = value.detach(), mine.grad
    mine = part(ALL, number).clone().requires_grad_()
    found["plain"] = [gathered(mine), summed(mine)]
    found["free"] = not any(value.requires_grad for value in found["plain"])
    found["left alone"] = torch.equal(mine, part(ALL, number))
    for name in NORMS:
        module = norm(name)
        over_workers(module)
        found[name] = of_norm(name, module, lambda value: part(value, number))
    torch.save(found, folder / f"{number}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory, pair):
    """What each of two workers found."""
    folder = tmp_path_factory.mktemp("collectives")
    pair(member, folder)
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(WORKERS)]


def test_rows_are_gathered_in_order_of_rank_and_summed(found):
    assert [(one["workers"], one["rank"]) for one in found] == [(2, 0), (2, 1)]
    total = part(ALL, 0) + part(ALL, 1)
    for one in found:
        assert torch.equal(one["gather"], ALL)
        assert torch.equal(one["plain"][0], ALL)
        torch.testing.assert_close(one["sum"], total, **EXACT)
        torch.testing.assert_close(one["plain"][1], total, **EXACT)
        assert one["free"]
        assert one["left alone"]


def test_gradients_of_all_workers_losses_are_summed_at_the_row_s_own_worker(found):
    whole = ALL.clone().requires_grad_()
    sum((weight * whole.square()).sum() for weight in WEIGHTS).backward()
    for number, one in enumerate(found):
        torch.testing.assert_close(one["gather gradient"], part(whole.grad, number), **EXACT)
    whole = ALL.clone().requires_grad_()
    total = part(whole, 0) + part(whole, 1)
    sum((part(weight, 0) * total.square()).sum() for weight in WEIGHTS).backward()
    for number, one in enumerate(found):
        torch.testing.assert_close(one["sum gradient"], part(whole.grad, number), **EXACT)


@pytest.mark.parametrize("name", NORMS)
def test_a_batch_norm_over_workers_is_torch_s_on_the_joined_batch(name, found):
    expected = of_norm(name, norm(name), lambda value: value)
    parts = [one[name] for one in found]
    without_memory = not NORMS[name][1].get("track_running_stats", True)
    for key, value in expected.items():
        if key.startswith("gradient of "):  # each worker's part of it; DDP adds them
            torch.testing.assert_close(parts[0][key] + parts[1][key], value, **EXACT)
        elif key.startswith(("output", "gradient")):
            torch.testing.assert_close(torch.cat([one[key] for one in parts]), value, **EXACT)
        elif key == "evaluated":
            if not without_memory:  # then the batch is looked at in evaluation too, each worker's own
                torch.testing.assert_close(torch.cat([one[key] for one in parts]), value, **EXACT)
        else:
            for one in parts:
                torch.testing.assert_close(one[key], value, **EXACT)


def test_of_one_process_nothing_changes():
    assert (workers(), rank()) == (1, 0)
    value = ALL.clone().requires_grad_()
    for collective in (gathered_with_gradient, summed_with_gradient):
        assert collective(value) is value
    for collective in (gathered, summed):
        assert torch.equal(collective(value), ALL)
        assert not collective(value).requires_grad
    for name in NORMS:
        module = norm(name)
        plain = copy.deepcopy(module)
        over_workers(module)
        mine, theirs = (of_norm(name, one, lambda value: value) for one in (module, plain))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_only_batch_norms_change_and_keep_their_names():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm2d(4)), nn.LayerNorm(3))
    before = list(module.state_dict())
    over_workers(module)
    over_workers(module)
    assert list(module.state_dict()) == before
    assert isinstance(module[1], nn.BatchNorm1d)
    assert isinstance(module[2][0], nn.BatchNorm2d)
    assert type(module[1]) is not nn.BatchNorm1d
    assert [type(module[0]), type(module[3])] == [nn.Linear, nn.LayerNorm]
