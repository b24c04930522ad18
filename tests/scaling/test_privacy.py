"""The attack against loops, against planted memorisation, and against nothing at all."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve

from scaleback.core.errors import InputError
from scaleback.scaling import privacy
from scaleback.scaling.privacy import (
    confidence,
    lira_offline,
    lira_online,
)
from scaleback.scaling.roc import attack_summary, roc
from scaleback.sources.members import memberships, mislabelled_canaries

ATTACKS = pytest.mark.parametrize("attack", [lira_online, lira_offline])


@given(seed=st.integers(0, 999), samples=st.integers(1, 8), views=st.integers(1, 4), classes=st.integers(2, 6))
@settings(deadline=None, max_examples=40)
def test_confidence_is_that_of_loops(seed, samples, views, classes):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(classes, 0.3), (samples, views))
    label = rng.integers(0, classes, samples)
    found = confidence(probability, label)
    for number, its in enumerate(label):
        mean = [sum(probability[number, view, k] for view in range(views)) / views for k in range(classes)]
        others = sum(value for k, value in enumerate(mean) if k != its)
        by_hand = math.log(mean[its] + 1e-45) - math.log(others + 1e-45)
        assert found[number] == pytest.approx(by_hand, rel=1e-9, abs=1e-9)


def test_confidence_stays_finite_and_tells_near_certainties_apart():
    sure = np.array([[[1.0, 0.0]], [[1.0, 1e-30]], [[1.0, 1e-20]], [[0.0, 1.0]]])
    found = confidence(sure, np.zeros(4, int))
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    assert found[1] == pytest.approx(30 * math.log(10))


def shadows_by_hand(values, member, target, sample):
    models = len(values)
    others = [(target + step) % models for step in range(1, models)]
    inside = [values[m][sample] for m in others if member[m][sample]]
    outside = [values[m][sample] for m in others if not member[m][sample]]
    each = models // 2 - 1
    return inside[:each], outside[-each:], inside, outside


def density_by_hand(value, shadow, std):
    return -0.5 * math.log(2 * math.pi) - math.log(std) - (value - statistics.median(shadow)) ** 2 / (2 * std**2)


def score_by_hand(values, member, online, own):
    """Target by target, sample by sample, from the definitions."""
    models, samples = len(values), len(values[0])
    score = np.zeros((models, samples))
    for target in range(models):
        square, free = 0.0, 0
        for sample in range(samples):
            *_, inside, outside = shadows_by_hand(values, member, target, sample)
            for group in [inside, outside] if online else [outside]:
                square += sum((value - statistics.fmean(group)) ** 2 for value in group)
                free += len(group) - 1
        pooled = math.sqrt(square / free)
        for sample in range(samples):
            inside, outside, *_ = shadows_by_hand(values, member, target, sample)
            value = values[target][sample]
            out_std = statistics.pstdev(outside) if own else pooled
            if online:
                in_std = statistics.pstdev(inside) if own else pooled
                score[target, sample] = density_by_hand(value, inside, in_std)
                score[target, sample] -= density_by_hand(value, outside, out_std)
            else:
                score[target, sample] = (value - statistics.median(outside)) / out_std
    return score


@ATTACKS
@pytest.mark.parametrize(("models", "spread"), [(4, "global"), (4, None), (6, "sample"), (8, "sample"), (10, "global")])
def test_the_attack_is_that_of_loops(attack, models, spread):
    member = memberships(7, models, 3)
    values = np.random.default_rng(models).normal(size=member.shape) + 1.5 * member
    by_hand = score_by_hand(values.tolist(), member.tolist(), attack is lira_online, spread == "sample")
    np.testing.assert_allclose(attack(values, member, spread), by_hand, rtol=1e-9, atol=1e-9)


@ATTACKS
def test_the_spread_is_chosen_by_the_number_of_models(attack, monkeypatch):
    member = memberships(20, 8, 3)
    values = np.random.default_rng(1).normal(size=member.shape)
    np.testing.assert_array_equal(attack(values, member), attack(values, member, "global"))
    monkeypatch.setattr(privacy, "OWN_SPREAD_MODELS", 8)
    np.testing.assert_array_equal(attack(values, member), attack(values, member, "sample"))


@ATTACKS
@pytest.mark.parametrize("models", [4, 16, 64])
def test_planted_memorisation_is_found(attack, models):
    member = memberships(1_000, models, 4)
    rng = np.random.default_rng(2)
    hardness = rng.normal(0, 5, 1_000)  # of a sample, whoever is made from it
    values = hardness + rng.normal(size=member.shape) + 4 * member
    found = attack_summary(attack(values, member), member, draws=100)
    assert found.area.low > 0.95
    assert found.balanced_accuracy > 0.88
    assert found.true_positive[1e-2] > 0.3
    assert roc(values, member).area < 0.75  # without shadows, hardness hides it


@ATTACKS
@pytest.mark.parametrize(("models", "spread"), [(4, "global"), (6, "sample"), (8, "global"), (16, "sample")])
def test_nothing_planted_is_nothing_found(attack, models, spread):
    """Samples enough to show it: with one shadow more on one side, the area is 0.41 at four models."""
    member = memberships(20_000 // models, models, 6)
    values = np.random.default_rng(7).normal(size=member.shape)
    score = attack(values, member, spread)
    found = attack_summary(score, member, draws=200)
    assert found.area.mean == pytest.approx(0.5, abs=0.02)
    assert found.area.low < 0.5 < found.area.high
    assert found.true_positive[1e-2] == pytest.approx(0.01, abs=0.005)
    assert found.balanced_accuracy < 0.52


@given(seed=st.integers(0, 9_999), count=st.integers(2, 80), coarse=st.booleans())
@settings(deadline=None, max_examples=80)
def test_the_curve_is_scikit_learns_and_its_area_mann_and_whitneys(seed, count, coarse):
    rng = np.random.default_rng(seed)
    member = np.arange(count) % 2 == 0
    score = rng.normal(size=count) + 0.5 * member
    score = score.round() if coarse else score
    found = roc(score, member)
    theirs = roc_curve(member, score, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_T, theirs[0], atol=1e-12)
    np.testing.assert_allclose(found.true_positive_T, theirs[1], atol=1e-12)
    assert found.area == pytest.approx(roc_auc_score(member, score))
    statistic = mannwhitneyu(score[member], score[~member]).statistic
    assert found.area == pytest.approx(statistic / (member.sum() * (~member).sum()))
    assert 0 <= found.area <= 1
    assert 0.5 <= found.balanced_accuracy <= 1
    best = max(
        (sum(score[member] >= level) / member.sum() + sum(score[~member] < level) / (~member).sum()) / 2
        for level in [*score, np.inf]
    )
    assert found.balanced_accuracy == pytest.approx(best)
    for rate in (0.0, 0.1, 0.5, 1.0):
        passed = [
            (score[member] >= level).mean() for level in [*score, np.inf] if (score[~member] >= level).mean() <= rate
        ]
        assert found.true_positive(rate) == pytest.approx(max(passed))


def test_a_rate_that_too_few_others_can_have_is_no_number():
    member = memberships(300, 4, 0)  # 600 non-members
    score = np.random.default_rng(0).normal(size=member.shape) + member
    found = attack_summary(score, member, draws=20)
    assert [found.true_positive[rate] for rate in (1e-4, 1e-3)] == [None, None]
    assert found.true_positive[1e-2] == roc(score, member).true_positive(1e-2)
    rates, passed = np.array(found.curve).T
    assert rates[0] == pytest.approx(1 / 600)
    assert rates[-1] == pytest.approx(1)
    assert (np.diff(rates) > 0).all()
    assert (np.diff(passed) >= 0).all()
    assert passed[-1] == 1


def test_the_interval_covers_the_area_as_often_as_stated():
    member = memberships(60, 4, 0)
    truth, covered = 0.760250, 0  # of normals one standard deviation apart
    for seed in range(150):
        rng = np.random.default_rng(seed)
        # What the models of a sample share widens the interval: it is the samples that are drawn.
        score = rng.normal(size=member.shape) + member
        area = attack_summary(score, member, draws=200, seed=seed).area
        covered += area.low <= truth <= area.high
        assert area.count == 60
    assert covered / 150 == pytest.approx(0.95, abs=0.055)


HALF = np.array([[True], [True], [False], [False]])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: memberships(5, 2, 0), "even number of at least 4; got 2"),
        (lambda: memberships(5, 7, 0), "even number of at least 4; got 7"),
        (lambda: lira_online(np.zeros((2, 1)), np.array([[True], [False]])), "at least 4 models; got 2"),
        (lambda: lira_offline(np.zeros((4, 1)), HALF, "sample"), "at least 6 models; got 4"),
        (lambda: lira_online(np.zeros((4, 2)), HALF), "must both be (models, samples); got ((4, 2), (4, 1))"),
        (lambda: lira_online(np.zeros((4, 1)), np.ones((4, 1), bool)), "exactly half"),
        (lambda: lira_online(np.full((4, 1), np.nan), HALF), "finite"),
        (lambda: roc(np.zeros(3), np.ones(3, bool)), "one of them is missing"),
        (lambda: roc(np.zeros(3), np.ones(4, bool)), "one shape; got ((3,), (4,))"),
        (lambda: roc(np.array([0.0, np.inf]), np.array([True, False])), "finite"),
        (lambda: confidence(np.ones((3, 2)), np.zeros(3, int)), "(samples, augmentations, classes)"),
        (lambda: mislabelled_canaries(np.zeros(3, int), 0.0, 2, 0), "in (0, 1]; got 0.0"),
        (lambda: mislabelled_canaries(np.zeros(3, int), 0.5, 1, 0), "at least 2 classes"),
    ],
)
def test_what_cannot_be_attacked_is_refused_in_one_line(call, said):
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
