"""The curve, and when a run is said to have collapsed."""

import math

import numpy as np
import pytest
import torch

from scaleback.core.errors import DivergedError
from scaleback.objectives.learners.base import Losses
from scaleback.pretrain.watch import CURVE_ROWS, PATIENCE_ROWS, Watch, collapsed, effective_rank, verdict
from scaleback.pretrain.world import World


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def rank_by_definition(features_BD):
    """Roy and Vetterli, 2007: exp of Shannon's entropy of the singular values' shares."""
    centred = features_BD - features_BD.mean(axis=0)
    share = np.sqrt(np.clip(np.linalg.eigvalsh(centred.T @ centred), 0, None))
    share = [value / share.sum() for value in share if value / share.sum() > 1e-9]
    return math.exp(-sum(value * math.log(value) for value in share))


@pytest.mark.parametrize("shape", [(20, 6), (5, 30), (64, 64)])
def test_effective_rank_is_as_defined(shape):
    features = normal(*shape) * torch.linspace(0.1, 3, shape[1]) + 5
    assert effective_rank(features) == pytest.approx(rank_by_definition(features.double().numpy()), rel=1e-4)


def test_effective_rank_counts_equal_directions():
    axes = torch.eye(4).repeat(2, 1) * torch.tensor([1, 1, 1, 1, -1, -1, -1, -1])[:, None]
    assert effective_rank(axes) == pytest.approx(4)


@pytest.mark.parametrize("features", [torch.ones(8, 4), normal(8, 1) * normal(1, 4, seed=1)], ids=["point", "line"])
def test_effective_rank_of_a_line_is_one(features):
    assert effective_rank(features) == pytest.approx(1, abs=1e-3)


def rows(loss, rank, count=50):
    return [{"loss": math.log(10), "effective_rank": 9.0}] * (count - 5) + [{"loss": loss, "effective_rank": rank}] * 5


@pytest.mark.parametrize(
    ("share_of_trivial", "rank", "collapsed"),
    [(1.0, 9.0, True), (0.985, 9.0, True), (0.97, 9.0, False), (0.5, 1.0, True), (0.5, 1.6, False), (1.2, 9.0, True)],
)
def test_a_run_at_the_trivial_loss_or_of_rank_one_has_collapsed(share_of_trivial, rank, collapsed):
    found = verdict(rows(share_of_trivial * math.log(10), rank), trivial_loss=math.log(10), classes=10)
    assert found["collapsed"] is collapsed
    assert found["learnt_share"] == pytest.approx(1 - share_of_trivial)
    assert found["effective_rank"] == rank


def test_the_final_loss_is_the_mean_of_the_last_tenth():
    curve = [{"loss": float(number), "effective_rank": 5.0} for number in range(40)]
    assert verdict(curve, trivial_loss=100.0, classes=10)["loss"] == (36 + 37 + 38 + 39) / 4
    assert verdict(curve[:3], trivial_loss=100.0, classes=10)["loss"] == 2


def test_a_run_that_tells_two_classes_apart_has_not_collapsed():
    # The loss at half its trivial value, features at two points of some spread: a rank of 1.3,
    # where runs on two plain textures end at an accuracy of 1.
    label_B = torch.arange(64) % 2
    features = (2.0 * label_B - 1)[:, None] * normal(1, 16, seed=1) + 0.005 * normal(64, 16)
    found = verdict(
        [{"loss": 0.5 * math.log(2), "effective_rank": effective_rank(features)}], trivial_loss=math.log(2), classes=2
    )
    assert found["collapsed"] is False


LINE = "features lie on one line: their effective rank is 1.20"


def curve(*ranks, **more):
    """A row every hundredth of a budget of 1,000 images, from the eleventh hundredth on."""
    return [{"images_seen": 110.0 + 10 * number, "effective_rank": rank, **more} for number, rank in enumerate(ranks)]


def stopped(rows, *, classes=10, of_method=lambda row: None):
    return collapsed(rows, budget_images=1_000, classes=classes, of_method=of_method)


def test_a_run_is_stopped_after_five_rows_on_one_line():
    assert PATIENCE_ROWS == 5
    assert stopped([]) is None
    assert stopped(curve(*[1.2] * 4)) is None
    assert stopped(curve(*[1.2] * 5)) == LINE
    assert stopped(curve(9.0, *[1.2] * 5)) == LINE
    assert stopped(curve(*[1.2] * 5, 9.0)) is None
    assert stopped(curve(1.2, 1.2, 1.6, 1.2, 1.2)) is None


def test_the_first_tenth_of_a_run_may_look_collapsed():
    rows = [{"images_seen": 10.0 * number, "effective_rank": 1.2} for number in range(1, 101)]
    assert stopped(rows[:10]) is None
    assert stopped(rows[:14]) is None  # the tenth row ends the first tenth
    assert stopped(rows[:15]) == LINE


def test_two_classes_may_lie_on_a_line():
    assert stopped(curve(*[1.2] * 9), classes=2) is None
    assert stopped(curve(*[1.2] * 9), classes=0) == LINE  # a method that tells no classes apart


def test_a_rank_that_is_not_known_shows_no_collapse():
    assert stopped([{"images_seen": 500.0 + number} for number in range(9)]) is None


def test_a_method_s_own_sign_must_hold_for_five_rows_too():
    def of_method(row):
        return f"entropy {row['entropy']}" if row["entropy"] < 1 else None

    low, high = curve(*[9.0] * 5, entropy=0.5), curve(9.0, entropy=2.0)
    assert stopped(low, of_method=of_method) == "entropy 0.5"
    assert stopped([*high, *low[:4]], of_method=of_method) is None
    assert stopped([*low, *high], of_method=of_method) is None
    assert stopped(low, classes=2, of_method=of_method) == "entropy 0.5"


def losses(total, accuracy=0.0):
    return Losses(total=torch.tensor(total), features_BD=normal(4, 3), parts={"accuracy": torch.tensor(accuracy)})


def test_a_row_holds_the_means_since_the_last_row():
    watch = Watch(World(), steps=10, batch_images=8)
    for total, accuracy in ((1.0, 0.0), (2.0, 0.5), (6.0, 1.0)):
        watch.add(losses(total, accuracy), 0)
    features = normal(6, 3)
    row = watch.row(3, 0.1, 2.5, features)
    assert {name: row[name] for name in ("images_seen", "loss", "accuracy", "lr", "gradient_norm")} == {
        "images_seen": 24, "loss": 3.0, "accuracy": 0.5, "lr": 0.1, "gradient_norm": 2.5,
    }  # fmt: skip
    assert row["feature_std"] == pytest.approx(features.numpy().std(axis=0).mean())
    watch.add(losses(7.0), 3)
    assert watch.row(4, 0.1, 2.5, features)["loss"] == 7


@pytest.mark.parametrize("total", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(total):
    with pytest.raises(DivergedError, match=r"after 1,200 images"):
        Watch(World(), steps=500, batch_images=12).add(losses(total), 100)


@pytest.mark.parametrize("steps", [1, 7, 100, 101, 1_999, 61_440])
def test_a_curve_has_about_a_hundred_rows_and_ends_with_the_run(steps):
    watch = Watch(World(), steps=steps, batch_images=1)
    due = [step for step in range(1, steps + 1) if watch.due(step)]
    assert due[-1] == steps
    assert min(steps, CURVE_ROWS) <= len(due) <= 2 * CURVE_ROWS
