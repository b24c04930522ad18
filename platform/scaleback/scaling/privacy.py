"""Whether a model tells which images it was made from: the likelihood-ratio attack.

Carlini et al., "Membership inference attacks from first principles" (S&P 2022). Many models are made alike, each from
its own half of the samples; each in turn is attacked with what the others show.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from scaleback.core.errors import InputError, refusal

# Shapes: M models, N samples, Q augmentations, K classes, O models other than the target, S shadows of one kind.

LEAST_MODELS = 4
"""With the target left out, each sample is still in one of the others, and out of one, as ``sources.members`` draws."""
LEAST_SPREAD_MODELS = 6
"""With the target left out, each sample is in two of the others, and out of two."""
OWN_SPREAD_MODELS = 64
"""From here on each sample has a spread of its own; with fewer, one for all is the stronger attack (section VI)."""
LEAST_PROBABILITY = 1e-45
"""Added before logarithms, as in the authors' code."""
LEAST_SPREAD = 1e-6
"""Of shadows that agree exactly, in nats."""

Spread: TypeAlias = Literal["sample", "global"]


def confidence(probability_NQK: NDArray[np.floating], label_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) log-odds of the label, of probabilities averaged over augmentations.

    The odds are against the sum of the other classes, which keeps the digits that 1 - p loses near one.
    """
    probability = np.asarray(probability_NQK, np.float64)
    if probability.ndim != 3 or label_N.shape != probability.shape[:1]:
        got = (probability.shape, label_N.shape)
        raise InputError(refusal("needs probabilities (samples, augmentations, classes) and a label a sample", got))
    mean_NK = probability.mean(axis=1)
    of_label_N = np.take_along_axis(mean_NK, label_N[:, None], axis=1)[:, 0]
    np.put_along_axis(mean_NK, label_N[:, None], 0.0, axis=1)
    others_N = mean_NK.sum(axis=1)
    odds_N: NDArray[np.float64] = np.log(of_label_N + LEAST_PROBABILITY) - np.log(others_N + LEAST_PROBABILITY)
    return odds_N


def lira_online(
    confidence_MN: NDArray[np.float64], member_MN: NDArray[np.bool_], spread: Spread | None = None
) -> NDArray[np.float64]:
    """(M, N) log-likelihood ratio that a sample is a member of the target, each model the target in turn.

    Normal around the medians of the shadows with and without the sample. ``spread`` is each sample's own or one for
    all; None takes what the number of models allows.

    Raises:
        InputError: unequal shapes, too few models, a sample not in half of them, a confidence that is not finite.
    """
    own = _own_spread(confidence_MN, member_MN, spread)
    score_MN = np.empty(confidence_MN.shape)
    for target, value_N in enumerate(confidence_MN):
        other_ON, inside_ON = _others(confidence_MN, member_MN, target)
        with_SN, without_SN = _shadows(other_ON, inside_ON)
        pooled = None if own else _pooled_std(other_ON, inside_ON, ~inside_ON)
        score_MN[target] = _log_density(value_N, with_SN, pooled) - _log_density(value_N, without_SN, pooled)
    return score_MN


def lira_offline(
    confidence_MN: NDArray[np.float64], member_MN: NDArray[np.bool_], spread: Spread | None = None
) -> NDArray[np.float64]:
    """(M, N) deviations above the median of the shadows without the sample; spread and errors as ``lira_online``.

    The paper's score is the normal distribution function of it, which orders samples alike but ends at one.
    """
    own = _own_spread(confidence_MN, member_MN, spread)
    score_MN = np.empty(confidence_MN.shape)
    for target, value_N in enumerate(confidence_MN):
        other_ON, inside_ON = _others(confidence_MN, member_MN, target)
        without_SN = _shadows(other_ON, inside_ON)[1]
        std = without_SN.std(axis=0) if own else _pooled_std(other_ON, ~inside_ON)
        score_MN[target] = (value_N - np.median(without_SN, axis=0)) / np.maximum(std, LEAST_SPREAD)
    return score_MN


def _own_spread(confidence_MN: NDArray[np.float64], member_MN: NDArray[np.bool_], spread: Spread | None) -> bool:
    if confidence_MN.ndim != 2 or not confidence_MN.size or confidence_MN.shape != member_MN.shape:
        got = (confidence_MN.shape, member_MN.shape)
        raise InputError(refusal("confidence and membership must both be (models, samples)", got))
    models = len(confidence_MN)
    least = LEAST_SPREAD_MODELS if spread == "sample" else LEAST_MODELS
    if models < least:
        raise InputError(refusal(f"the attack needs at least {least} models", models))
    if not (member_MN.sum(axis=0) * 2 == models).all():
        raise InputError("each sample must be in exactly half of the models")
    if not np.isfinite(confidence_MN).all():
        raise InputError("confidences must be finite")
    return models >= OWN_SPREAD_MODELS if spread is None else spread == "sample"


def _others(
    confidence_MN: NDArray[np.float64], member_MN: NDArray[np.bool_], target: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(O, N) the models after the target, around to the one before it."""
    order_O = (target + np.arange(1, len(confidence_MN))) % len(confidence_MN)
    return confidence_MN[order_O], member_MN[order_O]


def _shadows(
    other_ON: NDArray[np.float64], inside_ON: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(S, N) with each sample and (S, N) without it.

    The target's own membership leaves one more on one side. That one is left out: a centre of more models lies nearer
    to the target's confidence, which alone would tell membership, the wrong way round.
    """
    each = (len(other_ON) - 1) // 2
    place_ON = np.argsort(~inside_ON, axis=0, kind="stable")
    return (
        np.take_along_axis(other_ON, place_ON[:each], axis=0),
        np.take_along_axis(other_ON, place_ON[-each:], axis=0),
    )


def _pooled_std(other_ON: NDArray[np.float64], *groups: NDArray[np.bool_]) -> float:
    """Spread of the models of a group around the group's mean at each sample, one number for all samples."""
    square, free = 0.0, 0
    for group_ON in groups:
        count_N = group_ON.sum(axis=0)
        mean_N = np.where(group_ON, other_ON, 0).sum(axis=0) / np.maximum(count_N, 1)
        square += float((np.where(group_ON, other_ON - mean_N, 0) ** 2).sum())
        free += int(np.maximum(count_N - 1, 0).sum())
    return float(np.sqrt(square / max(free, 1)))


def _log_density(
    value_N: NDArray[np.float64], shadow_SN: NDArray[np.float64], std: float | None
) -> NDArray[np.float64]:
    spread_N = np.maximum(shadow_SN.std(axis=0) if std is None else std, LEAST_SPREAD)
    density_N: NDArray[np.float64] = norm.logpdf(value_N, np.median(shadow_SN, axis=0), spread_N)
    return density_N
