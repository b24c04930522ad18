"""The exchange rate by a law: how many synthetic images are worth one real image, at equal error.

``error(R, S) = offset + scale * (R + worth(S)) ** -exponent`` for R real and S synthetic images, with
``worth(S) = c S0 (1 - exp(-S / S0))``: the first synthetic images are worth c real ones each, and all together never
more than c S0. Two nested forms, without saturation (c S) and useless (0), are compared with it by AICc (Hurvich and
Tsai, 1989).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaleback.core import seeds
from scaleback.scaling.intervals import CONFIDENCE, Interval, of_samples, widening
from scaleback.scaling.laws import FitError
from scaleback.scaling.projection import Float64, Runs, Search, Solved, worth

# Shapes: N runs, K seeds, R bootstrap samples, P searched parameters (see ``projection``).

FORMS = {"useless": 1, "linear": 2, "saturating": 3}
"""Parameters of each that are searched; offset, scale and the noise are three more."""
REAL_SIZES = 4
"""Numbers of real images without synthetic ones that a curve with three parameters needs at the least."""
HUBER = 1.345
"""Residuals beyond so many standard deviations pull no harder: 95 % efficient for normal ones (Huber, 1981)."""
ROBUST_ROUNDS = 5
NOTHING = 1e-9
"""A residual below this is rounding."""
DRAWS = 1_000


@dataclass(frozen=True, slots=True)
class Run:
    """What one run had and reached. Runs of one seed share their draw of images, so they are resampled together."""

    real: float
    synthetic: float
    error: float
    seed: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """A fitted law with 95 % intervals over seeds; ``unidentified`` says why its rate must not be quoted, if so."""

    form: str
    """One of ``FORMS``, the least AICc."""
    aicc: Mapping[str, float]
    """Of each form that the runs can determine, above the least."""
    offset: float
    scale: float
    exponent: Interval
    saturation: float
    """S0 in synthetic images; infinite where the form has none."""
    unidentified: str | None
    most_if_useless: float
    """Upper end of the worth of an image where the best form is useless; 0 for the other forms."""
    draws_RP: Float64
    """Parameters of bootstrap samples, the estimate first; of the linear form where the best is useless."""
    edges_RP: NDArray[np.int8]
    """-1 or 1 where such a parameter ended at the low or high end of its range."""
    seeds: int

    def worth_each(self, synthetic: float) -> Interval:
        """Real images that one of S synthetic images is worth in the mean; at S = 0, the first of them: c."""
        each_R = np.exp(self.draws_RP[:, 1])
        if synthetic > 0:
            each_R = worth(self.draws_RP, np.array([synthetic]))[:, 0] / synthetic
        # At the low end the worth is nothing, at the high end anything. Where all saturates before the fewest images
        # that were tried, what the first of them are worth is anything too.
        each_R = np.where(self.edges_RP[:, 1] < 0, 0.0, each_R)
        each_R = np.where(self.edges_RP[:, 1] > 0, np.inf, each_R)
        if synthetic == 0 and self.draws_RP.shape[1] == 3:
            each_R = np.where(self.edges_RP[:, 2] < 0, np.inf, each_R)
        interval = widened(each_R, self.seeds)
        if self.form == "useless":
            high = None if interval.high is None else max(interval.high, self.most_if_useless)
            return Interval(0.0, None if high is None else 0.0, high, interval.count)
        return interval

    def per_real(self, synthetic: float) -> Interval:
        """The exchange rate: synthetic images, of S, that are worth one real image; infinite if none is worth any."""
        each = self.worth_each(synthetic)
        ends = [None if end is None else _inverse(end) for end in (each.high, each.low)]
        return Interval(_inverse(each.mean), ends[0], ends[1], each.count)

    def __call__(self, real: float, synthetic: float) -> float:
        """Error with R real and S synthetic images."""
        replaced = 0.0 if self.form == "useless" else float(worth(self.draws_RP[:1], np.array([synthetic]))[0, 0])
        return float(self.offset + self.scale * (real + replaced) ** -self.exponent.mean)


def fit_exchange(runs: Sequence[Run], *, draws: int = DRAWS, seed: int = 0) -> Exchange:
    """Fit all forms, choose one, and resample seeds with all their runs (Cameron, Gelbach and Miller, 2008).

    Outlying runs are weighed down (Huber, 1981) by their residuals from the fullest form; all forms and samples then
    share these weights, so that their sums of squares compare.

    Raises:
        FitError: numbers no law has, or a design that cannot determine one.
    """
    table = _table(runs)
    steps = len(np.unique(table.synthetic_N[table.synthetic_N > 0]))
    # With one number of synthetic images, saturation and rate are the same thing; without real images, no synthetic
    # image may be worth nothing.
    possible = [form for form in FORMS if not (form == "saturating" and steps < 2)]
    if not table.real_N.all():
        possible.remove("useless")
    searches = {form: Search(table, FORMS[form]) for form in possible}
    weight_N = _weights(table, searches[possible[-1]])
    solved = {form: search.solve(weight_N[None]) for form, search in searches.items()}
    score = {
        form: aicc(float(found.square_R[0]), len(weight_N), FORMS[form] + 3)
        for form, found in solved.items()
        if len(weight_N) > FORMS[form] + 4
    }
    if not score:
        raise FitError(f"an exchange rate needs more runs than {FORMS[possible[0]] + 4}; got {len(weight_N)}")
    best = min(score, key=score.__getitem__)
    own = np.array([run.seed for run in runs])
    weight_RN = np.vstack([weight_N, weight_N * resampled(own, draws, seed)])
    fitted = searches[best].solve(weight_RN)
    form = "linear" if best == "useless" else best
    sampled = searches[form].solve(weight_RN) if form != best else fitted
    count = len(np.unique(own))
    exponent = widened(np.exp(fitted.theta_RP[:, 0]), count)
    exchange = Exchange(
        form=best,
        aicc={name: value - score[best] for name, value in score.items()},
        offset=float(fitted.offset_R[0]),
        scale=float(fitted.scale_R[0] * table.reference**exponent.mean),
        exponent=exponent,
        saturation=float(np.exp(fitted.theta_RP[0, 2])) if best == "saturating" else np.inf,
        unidentified=None,
        most_if_useless=_most(_signed_rates(table, fitted, weight_RN), count) if best == "useless" else 0.0,
        draws_RP=sampled.theta_RP,
        edges_RP=searches[form].ends(sampled.theta_RP),
        seeds=count,
    )
    return _judged(exchange)


def _judged(exchange: Exchange) -> Exchange:
    each = exchange.worth_each(0)
    reason = None
    if exchange.scale <= NOTHING:
        reason = "the error does not fall with real images"
    elif (exchange.edges_RP[0, 0] != 0) or np.mean(exchange.edges_RP[:, 0] != 0) > (1 - CONFIDENCE) / 2:
        reason = "the exponent is at an end of its range"
    elif each.high is None:
        reason = "one seed says nothing about its interval"
    elif np.isinf(each.high):
        reason = "any worth of the first synthetic images, however large, fits as well"
    elif each.low == 0 and exchange.form != "useless":
        reason = "its interval reaches from no worth"
    return replace(exchange, unidentified=reason)


def _table(runs: Sequence[Run]) -> Runs:
    values = np.array([(run.real, run.synthetic, run.error) for run in runs], float).reshape(-1, 3)
    if not np.isfinite(values).all() or (values < 0).any() or (values[:, :2].sum(1) == 0).any():
        raise FitError("an exchange rate needs finite errors, none negative, of runs with some image")
    alone = values[(values[:, 1] == 0), 0]
    if len(np.unique(alone)) < REAL_SIZES:
        raise FitError(
            f"an exchange rate needs runs without synthetic images at {REAL_SIZES} numbers of real images at least; "
            f"got {len(np.unique(alone))}"
        )
    if not (values[:, 1] > 0).any():
        raise FitError("an exchange rate needs runs with synthetic images; got none")
    return Runs(values[:, 0], values[:, 1], values[:, 2])


def _weights(table: Runs, search: Search) -> Float64:
    weight_N = np.ones(len(table.error_N))
    for _ in range(ROBUST_ROUNDS):
        found = search.solve(weight_N[None])
        residual_N = np.abs(search.predicted(found)[0] - table.error_N)
        # The median of a normal variable without its sign is 0.6745 standard deviations.
        limit = HUBER * max(float(np.median(residual_N)) / 0.6745, NOTHING)
        weight_N = np.minimum(1, limit / np.maximum(residual_N, NOTHING))
    return weight_N


def aicc(square: float, count: int, parameters: int) -> float:
    """Of a fit by least squares; lower is better (Hurvich and Tsai, 1989)."""
    fit = count * float(np.log(max(square / count, NOTHING**2)))
    return fit + 2 * parameters + 2 * parameters * (parameters + 1) / (count - parameters - 1)


def resampled(seed_N: NDArray[np.int64], draws: int, seed: int) -> Float64:
    """(R, N) how often the seed of each run is drawn in each sample."""
    names_K, place_N = np.unique(seed_N, return_inverse=True)
    rng = seeds.generator("bootstrap of an exchange rate", seed)
    count_RK = rng.multinomial(len(names_K), np.full(len(names_K), 1 / len(names_K)), draws)
    return count_RK[:, place_N].astype(float)


def _signed_rates(table: Runs, fitted: Solved, weight_RN: Float64) -> Float64:
    """(R,) worth of an image to first order around none, negative where synthetic images do harm.

    A bootstrap says nothing at the end of a range (Andrews, 2000): where harm is seen by chance, every sample is worth
    nothing, and the interval has no width. Without the sign there is no such end.
    """
    exponent, scale = float(np.exp(fitted.theta_RP[0, 0])), float(fitted.scale_R[0])
    count_N = table.real_N / table.reference
    power_N = count_N**-exponent
    residual_N = table.error_N - fitted.offset_R[0] - scale * power_N
    slope_NP = np.stack(
        [
            np.ones(len(count_N)),
            power_N,
            -scale * power_N * np.log(count_N),
            -exponent * scale * power_N * table.synthetic_N / table.real_N,
        ],
        axis=1,
    )
    norm_P = np.maximum(np.linalg.norm(slope_NP, axis=0), NOTHING)
    slope_NP /= norm_P
    normal_RPP = np.einsum("rn,np,nq->rpq", weight_RN, slope_NP, slope_NP, optimize=True)
    step_RP = np.linalg.pinv(normal_RPP, hermitian=True) @ (weight_RN * residual_N @ slope_NP)[:, :, None]
    rate_R: Float64 = step_RP[:, -1, 0] / norm_P[-1]
    return rate_R


def _most(rate_R: Float64, count: int) -> float:
    high = of_samples(rate_R, count).high
    return np.inf if high is None else max(0.0, high)


def widened(value_R: Float64, count: int) -> Interval:
    """Of an estimate, the first, from samples, the others: percentiles of their ratio, widened for few seeds."""
    estimate = float(value_R[0])
    if count < 2:
        return Interval(estimate, None, None, count)
    ends = 0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2
    low = float(np.quantile(value_R[1:], ends[0], method="lower"))
    high = float(np.quantile(value_R[1:], ends[1], method="higher"))
    if not 0 < estimate < np.inf:
        return Interval(estimate, min(low, estimate), max(high, estimate), count)
    factor = widening(count, count - 1)
    return Interval(
        estimate, estimate * min(1.0, low / estimate) ** factor, estimate * max(1.0, high / estimate) ** factor, count
    )


def _inverse(value: float) -> float:
    return np.inf if value == 0 else 1 / value
