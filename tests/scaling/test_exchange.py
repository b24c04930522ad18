"""The exchange rate: found where it is, as good as any other search, and refused where it cannot be told."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from scaleback.scaling.exchange import FORMS, Run, fit_exchange
from scaleback.scaling.intervals import Interval
from scaleback.scaling.laws import FitError
from scaleback.scaling.projection import Runs, Search, worth

REALS, SYNTHETICS = (100, 200, 400, 800, 1600, 3200), (0, 1000, 4000, 16000)
FEW = 40  # bootstrap draws where intervals are not looked at


def replaced(synthetic, rate, most):
    return rate * synthetic if math.isinf(most) else rate * most * (1 - math.exp(-synthetic / most))


def study(seed, rate, most=math.inf, *, spread=0.004, seeds=5, exponent=0.5, offset=0.1, reals=REALS, made=SYNTHETICS):
    """Runs of a known law; half of the spread is shared by all runs of a seed, as a draw of images is."""
    rng, runs = np.random.default_rng(seed), []
    for own in range(seeds):
        shared = rng.normal(0, spread / 2)
        for real in reals:
            for synthetic in made:
                error = offset + 3 * (real + replaced(synthetic, rate, most)) ** -exponent
                runs.append(Run(real, synthetic, float(error + shared + rng.normal(0, spread)), own))
    return runs


@settings(deadline=None, max_examples=12)
@given(
    rate=st.floats(0.01, 1.0),
    most=st.floats(2_000, 20_000),
    exponent=st.floats(0.2, 1.2),
    offset=st.floats(0.0, 0.3),
)
def test_a_law_without_noise_is_recovered(rate, most, exponent, offset):
    found = fit_exchange(study(0, rate, most, spread=0, seeds=1, exponent=exponent, offset=offset), draws=FEW)
    assert found.form == "saturating"
    assert found.worth_each(0).mean == pytest.approx(rate, rel=1e-3)
    assert found.saturation == pytest.approx(most, rel=1e-3)
    assert found.exponent.mean == pytest.approx(exponent, rel=1e-3)
    assert found.offset == pytest.approx(offset, abs=1e-4)
    assert found.scale == pytest.approx(3, rel=1e-2)
    assert found(300, 2_000) == pytest.approx(offset + 3 * (300 + replaced(2_000, rate, most)) ** -exponent, rel=1e-4)
    assert found.worth_each(3_000).mean * 3_000 == pytest.approx(replaced(3_000, rate, most), rel=1e-3)
    assert found.per_real(3_000).mean == pytest.approx(3_000 / replaced(3_000, rate, most), rel=1e-3)


@pytest.mark.parametrize(("rate", "most"), [(0.1, math.inf), (0.5, math.inf), (0.1, 6_000), (1.0, 3_000)])
def test_a_law_with_noise_is_told_apart_and_its_interval_holds_it(rate, most):
    found = fit_exchange(study(1, rate, most), draws=200)
    assert found.unidentified is None
    assert found.form != "useless"
    assert found.aicc["useless"] > 100
    assert found.aicc[found.form] == 0 == min(found.aicc.values())
    if not math.isinf(most):
        assert found.form == "saturating"
        assert found.aicc["linear"] > 20
    at_start, at_most = found.worth_each(0), found.worth_each(16_000)
    assert at_start.low <= rate <= at_start.high < 1.6 * at_start.low
    assert at_most.low <= replaced(16_000, rate, most) / 16_000 <= at_most.high
    inverse = found.per_real(0)
    assert (inverse.low, inverse.mean, inverse.high) == pytest.approx(
        (1 / at_start.high, 1 / at_start.mean, 1 / at_start.low)
    )


@pytest.mark.parametrize("seed", range(4))
def test_images_of_no_worth_are_found_useless_up_to_a_small_bound(seed):
    found = fit_exchange(study(seed, 0.0), draws=200)
    assert found.form == "useless"
    assert found.unidentified is None
    each, rate = found.worth_each(0), found.per_real(0)
    assert (each.mean, each.low) == (0, 0)
    assert each.high < 1e-3
    assert (rate.mean, rate.high) == (math.inf, math.inf)
    assert rate.low == pytest.approx(1 / each.high if each.high else math.inf)
    assert found(400, 16_000) == found(400, 0) == pytest.approx(0.1 + 3 * 400**-0.5, abs=0.01)


def test_the_bound_of_useless_images_has_a_width_though_harm_is_seen_by_chance():
    found = fit_exchange(study(1, 0.0), draws=200)
    assert found.form == "useless"
    assert replace(found, most_if_useless=0.0).worth_each(0).high == 0  # all that the bootstrap alone can say
    assert 0 < found.worth_each(0).high < 1e-4


def squares_by_many_starts(runs, form):
    """What scipy reaches from the best of many starts, offset and scale searched too; slow on purpose."""
    table = np.array([(run.real, run.synthetic, run.error) for run in runs])

    def residual(p):
        rate, most = math.exp(p[3]), math.exp(p[4]) if form == "saturating" else math.inf
        gained = [replaced(synthetic, 0 if form == "useless" else rate, most) for synthetic in table[:, 1]]
        return p[0] + p[1] * ((table[:, 0] + gained) / 100) ** -math.exp(p[2]) - table[:, 2]

    found = [
        least_squares(
            residual,
            (0.1, 0.3, math.log(exponent), math.log(rate), math.log(most)),
            bounds=([0, 0, math.log(0.02), math.log(1e-5), 5.4], [9, 9, math.log(5), math.log(32), 11.9]),
        )
        for exponent in (0.2, 0.6, 2.0)
        for rate in ((0.01, 0.1, 1.0) if form != "useless" else (1.0,))
        for most in ((1_000.0, 10_000.0) if form == "saturating" else (1_000.0,))
    ]
    return min(2 * one.cost for one in found)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", range(3))
def test_no_other_search_finds_a_better_law(form, case):
    rng = np.random.default_rng(case)
    runs = study(case, rng.uniform(0.02, 0.5), rng.choice([2_000, 8_000, math.inf]), spread=0.02, seeds=2)
    table = Runs(*np.array([(run.real, run.synthetic, run.error) for run in runs]).T)
    ours = Search(table, FORMS[form]).solve(np.ones((1, len(runs)))).square_R[0]
    assert ours <= squares_by_many_starts(runs, form) * (1 + 1e-6)


def test_samples_together_are_samples_alone():
    runs = study(2, 0.1, 5_000, spread=0.01)
    table = Runs(*np.array([(run.real, run.synthetic, run.error) for run in runs]).T)
    weights = np.random.default_rng(0).integers(0, 3, (4, len(runs))).astype(float)
    search = Search(table, 3)
    together = search.solve(weights)
    for row, weight in enumerate(weights):
        alone = search.solve(weight[None])
        assert alone.square_R[0] == pytest.approx(together.square_R[row], rel=1e-9)
        left = weight * (search.predicted(alone)[0] - table.error_N) ** 2
        assert left.sum() == pytest.approx(alone.square_R[0])
        doubled = np.repeat(np.arange(len(runs)), weight.astype(int))
        again = Search(Runs(*(part[doubled] for part in (table.real_N, table.synthetic_N, table.error_N))), 3)
        assert again.solve(np.ones((1, len(doubled)))).square_R[0] == pytest.approx(alone.square_R[0], rel=1e-6)


@given(rate=st.floats(1e-3, 10), most=st.floats(10, 1e6), synthetic=st.floats(1, 1e6))
def test_the_worth_is_concave_and_bounded(rate, most, synthetic):
    theta = np.log([[0.5, rate, most]])
    half, whole = worth(theta, np.array([synthetic / 2, synthetic]))[0]
    assert half <= whole <= 2 * half * (1 + 1e-12)
    assert whole <= min(rate * synthetic, rate * most) * (1 + 1e-12)
    assert whole == pytest.approx(replaced(synthetic, rate, most), rel=1e-6)


def test_the_unit_of_images_and_the_order_of_runs_do_not_matter():
    runs = study(1, 0.2, 6_000)
    plain = fit_exchange(runs, draws=FEW)
    scaled = [replace(run, real=run.real / 1e4, synthetic=run.synthetic / 1e4) for run in runs]
    order = np.random.default_rng(0).permutation(len(runs))
    for other, unit in ((fit_exchange(scaled, draws=FEW), 1e4), (fit_exchange([runs[i] for i in order], draws=FEW), 1)):
        assert other.form == plain.form
        assert other.worth_each(0).mean == pytest.approx(plain.worth_each(0).mean, rel=1e-4)
        assert other.worth_each(0).high == pytest.approx(plain.worth_each(0).high, rel=1e-3)
        assert other.saturation * unit == pytest.approx(plain.saturation, rel=1e-4)


def test_equal_runs_have_equal_intervals_and_another_seed_others():
    runs = study(1, 0.2)
    first, again, other = (fit_exchange(runs, draws=FEW, seed=seed).worth_each(0) for seed in (0, 0, 1))
    assert first == again
    assert first.mean == other.mean
    assert first != other


def test_a_run_gone_wrong_hardly_moves_the_rate():
    runs = study(1, 0.1)
    wrong = [replace(run, error=0.9) if place in (3, 50) else run for place, run in enumerate(runs)]
    clean, dirty = (fit_exchange(these, draws=FEW).worth_each(16_000).mean for these in (runs, wrong))
    assert dirty == pytest.approx(clean, rel=0.1)


def test_seeds_are_resampled_whole():
    """Errors shifted by a seed as a whole: a bootstrap of single runs would see none of the interval this makes."""
    calm = study(1, 0.1, spread=1e-4)
    shifted = [replace(run, error=run.error + (0.02 * (run.seed - 2) if run.synthetic else 0.0)) for run in calm]
    wide, narrow = (fit_exchange(runs, draws=200).worth_each(4_000) for runs in (shifted, calm))
    assert wide.high / wide.low > 3 * narrow.high / narrow.low


def test_runs_without_real_images_leave_useless_out():
    runs = [*study(1, 0.1), *study(2, 0.1, reals=(0,), made=SYNTHETICS[1:])]
    found = fit_exchange(runs, draws=200)
    assert "useless" not in found.aicc
    each = found.worth_each(4_000)
    assert each.low < 0.1 < each.high


def test_one_number_of_synthetic_images_has_no_saturation():
    found = fit_exchange(study(1, 0.1, made=(0, 4_000)), draws=FEW)
    assert set(found.aicc) == {"useless", "linear"}
    assert found.form == "linear"


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        (study(1, 0.1, seeds=1), "one seed says nothing about its interval"),
        ([replace(run, error=0.5) for run in study(1, 0.1)], "the error does not fall with real images"),
        (
            study(1, 0.0, exponent=9, reals=(1, 1.2, 1.5, 2, 3)),
            "the exponent is at an end of its range",
        ),
        (study(4, 0.1, made=(0, 400), spread=0.02), "its interval reaches from no worth"),
    ],
    ids=["one seed", "flat", "steep", "little"],
)
def test_what_is_not_identified_is_said_with_the_reason(runs, reason):
    found = fit_exchange(runs, draws=200)
    assert found.unidentified == reason


@pytest.mark.parametrize("seed", range(6))
def test_errors_that_depend_on_nothing_identify_nothing(seed):
    rng = np.random.default_rng(seed)
    runs = [replace(run, error=float(rng.normal(0.5, 0.02))) for run in study(0, 0.0)]
    assert fit_exchange(runs, draws=200).unidentified is not None


def test_a_worth_that_ends_before_the_fewest_images_has_a_ceiling_and_no_rate():
    found = fit_exchange(study(1, 10.0, 60), draws=200)
    assert found.form == "saturating"
    assert found.unidentified == "any worth of the first synthetic images, however large, fits as well"
    ceiling = found.worth_each(4_000)
    assert ceiling.low * 4_000 < 600 < ceiling.high * 4_000


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        ([], "an exchange rate needs runs without synthetic images at 4 numbers of real images at least; got 0"),
        (study(0, 0.1, reals=REALS[:3]), "at 4 numbers of real images at least; got 3"),
        (study(0, 0.1, made=(0,)), "an exchange rate needs runs with synthetic images; got none"),
        ([Run(0, 0, 0.5, 0)], "an exchange rate needs finite errors, none negative, of runs with some image"),
        ([Run(5, 0, math.nan, 0)], "an exchange rate needs finite errors, none negative"),
        ([Run(5, -1, 0.5, 0)], "an exchange rate needs finite errors, none negative"),
        (
            [*(Run(real, 0, 0.5, 0) for real in (1, 2, 4, 8)), Run(1, 9, 0.4, 0)],
            "an exchange rate needs more runs than 5; got 5",
        ),
    ],
)
def test_designs_that_cannot_tell_are_refused(runs, line):
    with pytest.raises(FitError) as caught:
        fit_exchange(runs)
    assert line in str(caught.value)


def test_an_interval_of_one_seed_has_no_ends():
    each = fit_exchange(study(1, 0.1, seeds=1), draws=FEW).worth_each(0)
    assert each == Interval(each.mean, None, None, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "most"), [(0.1, math.inf), (0.1, 6_000), (0.0, math.inf)])
def test_intervals_cover_the_truth_about_as_often_as_stated(rate, most):
    hits = []
    for seed in range(100):
        each = fit_exchange(study(seed, rate, most), draws=200, seed=seed).worth_each(4_000)
        hits.append(each.low <= replaced(4_000, rate, most) / 4_000 <= each.high)
    assert np.mean(hits) >= 0.88
