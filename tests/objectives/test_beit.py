"""BEiT: block-wise masks, the loss by loops."""

import math

import numpy as np
import pytest
import torch

from scaleback.core.errors import RunError, SpecError
from scaleback.core.spec import Spec
from scaleback.objectives import AnyObjective
from scaleback.objectives.beit import BEiT
from scaleback.objectives.learners.masking import ATTEMPTS, BLOCK_DRAWS, FAILURES, block_masks, hidden_patches
from scaleback.objectives.tokenizers import RandomPatches
from tests.objectives.masked import (
    IMAGES,
    PATCHES,
    backbone,
    batch,
    cross_entropy,
    encoded_by_hand,
    learner,
    patch_of,
    token_by_hand,
)

SPEC = BEiT(tokenizer=RandomPatches(vocabulary=32))
GRIDS = [(14, 14, 75, 16.0), (6, 6, 14, 36 * 16 / 196), (2, 2, 2, 1.0), (5, 9, 17, 3.0)]


class Holder(Spec):
    objective: AnyObjective


def mask_by_hand(draws, height, width, hidden, least):
    """One mask, patch by patch; and how many patches were made up for."""
    mask, left, failures = set(), hidden, 0
    for attempt in range(ATTEMPTS):
        if left == 0 or failures == FAILURES:
            break
        area, ratio, down, across = (float(one) for one in draws[4 * attempt : 4 * attempt + 4])
        area = least + area * (left - least)
        aspect = math.exp(math.log(0.3) + ratio * (math.log(1 / 0.3) - math.log(0.3)))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        failures += 1
        if tall < height and wide < width:
            top, start = int(down * (height - tall + 1)), int(across * (width - wide + 1))
            block = {(y, x) for y in range(top, top + tall) for x in range(start, start + wide)}
            if 0 < len(block - mask) <= left:
                left -= len(block - mask)
                mask |= block
                failures = 0
    place = int(float(draws[-1]) * height * width)
    for step in range(height * width):
        patch = divmod((place + step) % (height * width), width)
        if len(mask) < hidden and patch not in mask:
            mask.add(patch)
    return mask, left


@pytest.mark.parametrize(("height", "width", "hidden", "least"), GRIDS)
def test_masks_are_those_of_a_loop_over_patches(height, width, hidden, least):
    draw = np.random.default_rng(0).random((200, BLOCK_DRAWS)).astype(np.float32)
    found = block_masks(draw, (height, width), hidden=hidden, least_area=least, narrowest=0.3)
    made_up = []
    for mask, draws in zip(found, draw, strict=True):
        expected, left = mask_by_hand(draws, height, width, hidden, least)
        assert {divmod(int(place), width) for place in np.flatnonzero(mask)} == expected
        made_up.append(left)
    assert (found.sum(1) == hidden).all()
    if (height, width) == (14, 14):
        assert 0.2 < np.mean(np.array(made_up) > 0) < 0.5
        assert np.mean(made_up) < 1


def test_blocks_leave_larger_holes_than_single_patches():
    draw = np.random.default_rng(0).random((300, BLOCK_DRAWS)).astype(np.float32)
    mask = block_masks(draw, (14, 14), hidden=75, least_area=16, narrowest=0.3).reshape(-1, 14, 14)
    beside = (mask[:, :, 1:] & mask[:, :, :-1]).sum() / (14 * 13) / (mask.sum() / 14**2)
    assert beside > 0.7  # 75 / 196 = 0.38 of patches drawn one by one


def test_a_draw_that_rounds_to_one_stays_in_the_grid():
    for value in (0.0, 1.0):
        draw = np.full((2, BLOCK_DRAWS), value, np.float32)
        assert (block_masks(draw, (6, 6), hidden=14, least_area=3, narrowest=0.3).sum(1) == 14).all()


@pytest.mark.parametrize(
    ("patches", "share", "hidden"), [(196, 75 / 196, 75), (36, 75 / 196, 14), (2, 0.9, 1), (9, 0.01, 1)]
)
def test_at_least_one_patch_is_hidden_and_one_is_not(patches, share, hidden):
    assert hidden_patches(patches, share) == hidden


def test_an_image_of_one_patch_has_nothing_to_hide():
    with pytest.raises(RunError, match=r"^an image is a single patch: there is no other to predict it from$"):
        hidden_patches(1, 0.5)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_loss_is_the_cross_entropy_of_hidden_patches_tokens(pool):
    module, given = learner(SPEC, pool), batch()
    vit, image = module.backbone, given.view_VBCHW[0]
    hidden = module.hidden(given, PATCHES)
    terms, right, constant, tokens = [], [], [], []
    for i in range(IMAGES):
        kernel = vit.patch_embed.proj.weight.permute(0, 2, 3, 1).reshape(16, -1)
        rows = [kernel @ patch_of(image[i], place) + vit.patch_embed.proj.bias for place in range(PATCHES)]
        rows = [module.mask_token if hidden[i, place] else row for place, row in enumerate(rows)]
        value = encoded_by_hand(vit, torch.stack([vit.cls_token[0, 0], *rows]) + vit.pos_embed[0])
        logits = value @ module.head.weight.T + module.head.bias
        for place in hidden[i].nonzero()[:, 0].tolist():
            token = token_by_hand(module.tokenizer, patch_of(image[i], place))
            terms.append(cross_entropy(logits[1 + place].tolist(), token))
            right.append(int(logits[1 + place].argmax()) == token)
            constant.append(float(module.tokenizer.nats_K[token]))
            tokens.append(token)
    losses = module(given)
    assert len(terms) == IMAGES * 6
    assert losses.total.item() == pytest.approx(np.mean(terms), rel=1e-9)
    assert losses.parts["accuracy"].item() == pytest.approx(np.mean(right))
    assert losses.parts["constant_loss"].item() == pytest.approx(np.mean(constant), rel=1e-6)
    assert losses.parts["blank_share"].item() == pytest.approx(np.mean(np.array(tokens) == 32))
    assert 32 in tokens


def test_hidden_pixels_are_in_the_targets_only():
    module, given = learner(SPEC), batch()
    hidden = module.hidden(given, PATCHES)
    pixels = hidden.view(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    features = module(given).features_BD
    given.view_VBCHW[0] = torch.where(pixels, torch.flip(given.view_VBCHW[0], dims=[0, 3]), given.view_VBCHW[0])
    assert torch.equal(module(given).features_BD, features)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_every_trained_weight_gets_a_gradient(pool):
    module = learner(SPEC, pool)
    module(batch()).total.backward()
    assert all(value.grad is not None and value.grad.any() for value in module.parameters())


def test_masks_change_from_pass_to_pass():
    module = learner(SPEC)
    assert not torch.equal(module.hidden(batch(0), PATCHES), module.hidden(batch(1), PATCHES))


def test_the_record_says_how_the_vocabulary_is_used():
    facts = learner(SPEC).facts()["tokenizer"]
    assert facts.keys() == {"perplexity", "top1_share", "vocabulary_used", "blank_share"}
    assert facts["blank_share"] > 0


def test_with_nothing_but_blank_patches_it_is_called_a_collapse():
    row = {"loss": 1.0, "blank_share": 0.997}
    assert SPEC.collapse(row) == "nothing to predict: 99.7% of the hidden patches are blank"
    assert SPEC.collapse(row | {"blank_share": 0.9}) is None


def test_the_mask_token_is_not_decayed():
    from scaleback.recipes.optimizers import AdamW

    module = learner(SPEC)
    optimizer = AdamW(lr=1.0, weight_decay=0.1).build(module)
    decayed = [value for group in optimizer.param_groups if group["weight_decay"] for value in group["params"]]
    assert not any(value is module.mask_token for value in decayed)
    assert any(value is module.head.weight for value in decayed)


def test_wrong_fields_are_refused():
    with pytest.raises(SpecError, match=r"objective.masked_share: must be less than 1; got 1.0"):
        Holder.parse({"objective": {"kind": "beit", "masked_share": 1.0}})
    with pytest.raises(SpecError, match=r"objective.tokenizer.center: unknown value"):
        Holder.parse({"objective": {"kind": "beit", "tokenizer": {"kind": "kmeans", "center": "mean"}}})
    assert backbone().has_tokens
