"""SplitMask: what each part sees and predicts, the matching loss by loops and by lightly."""

import math

import numpy as np
import pytest
import torch

from scaleback.core.errors import Refusal, SpecError
from scaleback.core.spec import Spec
from scaleback.objectives import AnyObjective
from scaleback.objectives.learners.splitmask import matching_loss
from scaleback.objectives.splitmask import SplitMask
from scaleback.objectives.tokenizers import RandomPatches
from scaleback.torchvision_operators import declare
from tests.objectives.masked import (
    IMAGES,
    PATCHES,
    batch,
    cross_entropy,
    encoded_by_hand,
    learner,
    patch_of,
    token_by_hand,
)

declare()  # before lightly, which imports torchvision
from lightly.loss import NTXentLoss  # noqa: E402

SPEC = SplitMask(tokenizer=RandomPatches(vocabulary=32))


class Holder(Spec):
    objective: AnyObjective


def descriptors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(2))


def matching_by_hand(first, second, temperature):
    """-log of the positive's share among it and both descriptors of all other images, over both directions."""
    unit = [[one / one.norm() for one in part] for part in (first, second)]
    terms = []
    for i in range(len(first)):
        for part in (0, 1):
            anchor = unit[part][i]
            positive = math.exp(float(anchor @ unit[1 - part][i]) / temperature)
            negatives = [
                math.exp(float(anchor @ unit[other][j]) / temperature)
                for j in range(len(first))
                for other in (0, 1)
                if j != i
            ]
            terms.append(-math.log(positive / (positive + sum(negatives))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_matching_is_the_loss_by_loops_and_lightly_s(temperature):
    first, second = descriptors()
    found = matching_loss(first, second, temperature).item()
    assert found == pytest.approx(matching_by_hand(first, second, temperature), rel=1e-9)
    assert found == pytest.approx(NTXentLoss(temperature)(first, second).item(), rel=1e-9)
    assert found == pytest.approx(matching_loss(second, first, temperature).item(), rel=1e-9)


def test_descriptors_that_are_one_cost_the_logarithm_of_their_number():
    same = torch.ones(4, 6, dtype=torch.float64)
    assert matching_loss(same, same, 0.2).item() == pytest.approx(math.log(7))


def test_matching_is_in_full_precision_under_autocast():
    first, second = (value.float() for value in descriptors())
    with torch.autocast("cpu", torch.bfloat16):
        half = matching_loss(first, second, 0.2)
    assert torch.equal(half, matching_loss(first, second, 0.2))


@pytest.mark.parametrize(("share", "seen"), [(0.5, 8), (0.25, 4), (0.01, 1)])
def test_parts_are_disjoint_and_each_is_to_fill_in_what_it_does_not_see(share, seen):
    module = learner(SPEC.replace({"visible_share": share}))
    seen_QS, missing_QM = module.parts(batch(), PATCHES)
    assert seen_QS.shape == (2 * IMAGES, seen)
    for first, second in zip(seen_QS[:IMAGES].tolist(), seen_QS[IMAGES:].tolist(), strict=True):
        assert not set(first) & set(second)
    for mine, others in zip(seen_QS.tolist(), missing_QM.tolist(), strict=True):
        assert sorted(mine + others) == list(range(PATCHES))
    if share == 0.5:  # then every patch is predicted once
        assert sorted(missing_QM[[0, IMAGES]].flatten().tolist()) == list(range(PATCHES))


def test_an_odd_patch_is_seen_by_neither_part():
    seen_QS, missing_QM = learner(SPEC).parts(batch(), 9)
    assert seen_QS.shape == (2 * IMAGES, 4)
    assert missing_QM.shape == (2 * IMAGES, 5)


@torch.no_grad()
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_loss_is_both_inpainting_losses_and_the_weighted_matching_loss(pool):
    module, given = learner(SPEC.replace({"match_weight": 0.3}), pool), batch()
    vit, decoder, image = module.backbone, module.decoder, given.view_VBCHW[0]
    seen_QS, missing_QM = module.parts(given, PATCHES)
    inpaint, means = [0.0, 0.0], [[], []]
    positions = torch.tensor([[position(place // 4, place % 4, 16)] for place in range(PATCHES)], dtype=torch.float64)
    for part in (0, 1):
        for i in range(IMAGES):
            row = part * IMAGES + i
            embedded = vit.patch_embed(image[i : i + 1])[0] + vit.pos_embed[0, 1:]
            tokens = torch.cat([vit.cls_token[0] + vit.pos_embed[0, :1], embedded[seen_QS[row]]])
            value = decoder.embed(encoded_by_hand(vit, tokens))
            whole = [value[0]]
            for place in range(PATCHES):
                seen = seen_QS[row].tolist()
                one = value[1 + seen.index(place)] if place in seen else decoder.mask_token
                whole.append(one + positions[place, 0])
            decoded = decoder.norm(decoder.blocks(torch.stack(whole)[None]))[0, 1:]
            means[part].append(decoded.mean(0))
            for place in missing_QM[row].tolist():
                logits = module.head.weight @ decoded[place] + module.head.bias
                token = token_by_hand(module.tokenizer, patch_of(image[i], place))
                inpaint[part] += cross_entropy(logits.tolist(), token) / IMAGES / len(missing_QM[row])
    match = matching_by_hand(*means, 0.2)
    losses = module(given)
    assert losses.parts["inpaint"].item() == pytest.approx(sum(inpaint), rel=1e-6)
    assert losses.parts["match"].item() == pytest.approx(match, rel=1e-6)
    assert losses.total.item() == pytest.approx(sum(inpaint) + 0.3 * match, rel=1e-6)
    assert losses.features_BD.shape == (IMAGES, 16)


def position(row, column, width):
    """Sine and cosine of the column, then of the row, in falling frequencies."""
    quarter = width // 4
    found = []
    for where in (column, row):
        found += [math.sin(where / 10_000 ** (k / quarter)) for k in range(quarter)]
        found += [math.cos(where / 10_000 ** (k / quarter)) for k in range(quarter)]
    return found


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_every_trained_weight_gets_a_gradient(pool):
    for weight in (0.0, 1.0):
        module = learner(SPEC.replace({"match_weight": weight}), pool)
        module(batch()).total.backward()
        assert all(value.grad is not None and value.grad.any() for value in module.parameters())


def test_without_matching_images_are_on_their_own():
    alone = SPEC.replace({"match_weight": 0.0})
    assert (SPEC.compares_images, alone.compares_images) == (True, False)
    parts = learner(alone)(batch()).parts
    assert parts.keys() == {"accuracy", "constant_loss", "blank_share", "inpaint"}


def test_a_batch_without_another_image_has_nothing_to_match():
    given = {"source_classes": None, "images": 9}
    SPEC.replace({"match_weight": 0.0}).refuse(batch_images=1, **given)
    SPEC.refuse(batch_images=2, **given)
    with pytest.raises(Refusal) as caught:
        SPEC.refuse(batch_images=1, **given)
    line = f"{caught.value.field}: {caught.value}"
    assert line == "kind: needs another image in a (micro-)batch to compare one with; got 1"


def test_parts_that_overlap_are_refused():
    with pytest.raises(SpecError, match=r"objective.visible_share: must be less than or equal to 0.5; got 0.6"):
        Holder.parse({"objective": {"kind": "splitmask", "visible_share": 0.6}})


def test_two_passes_over_half_of_the_patches_cost_one():
    assert SPEC.passes([1.0]) == 3.0
    assert SPEC.replace({"visible_share": 0.25}).passes([1.0]) == 1.5


def test_descriptors_that_are_one_are_called_a_collapse():
    row = {"loss": 1.0, "blank_share": 0.1, "negative_similarity": 0.9995}
    assert SPEC.collapse(row) == "descriptors of different images are one: their mean cosine is 0.9995"
    assert SPEC.collapse(row | {"negative_similarity": 0.9}) is None
    assert SPEC.collapse({"loss": 1.0, "blank_share": 1.0}).startswith("nothing to predict")


def test_what_is_watched_shows_such_a_collapse():
    module = learner(SPEC)
    with torch.no_grad():
        module.decoder.norm.weight.zero_()
    row = {name: float(value) for name, value in module(batch()).parts.items()}
    assert np.isclose(row["match"], math.log(2 * IMAGES - 1))
    assert SPEC.collapse(row) is not None
