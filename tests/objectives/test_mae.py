"""MAE: the loss by loops; encoder, decoder, positions and targets by lightly's."""

import numpy as np
import pytest
import torch

from scaleback.backbones import Backbone
from scaleback.core.errors import SpecError
from scaleback.core.spec import Spec
from scaleback.objectives import AnyObjective
from scaleback.objectives.learners import vit
from scaleback.objectives.learners.mae import normalised_pixels
from scaleback.objectives.learners.masking import hidden_patches, shuffled
from scaleback.objectives.mae import MAE
from scaleback.torchvision_operators import declare
from tests.objectives.masked import IMAGES, PATCH, PATCHES, backbone, batch, encoded_by_hand, learner, patch_of

declare()  # before lightly, which imports torchvision
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM  # noqa: E402
from lightly.models.utils import (  # noqa: E402
    get_2d_sine_cosine_positional_embedding,
    normalize_mean_var,
    patchify,
    random_token_mask,
)

SPEC = MAE(decoder_width=24, decoder_depth=2, decoder_heads=3)


class Holder(Spec):
    objective: AnyObjective


def order(given, patches=PATCHES):
    """Seen patches first, as the learner draws them."""
    return shuffled(given.draw("hide", patches))


def their_decoder(decoder):
    """lightly's decoder with our weights."""
    theirs = MaskedVisionTransformerDecoderTIMM(num_patches=PATCHES, embed_dim=24, depth=2, num_heads=3).double()
    weights = {name: value for name, value in decoder.state_dict().items() if not name.startswith("embed")}
    weights["mask_token"] = weights["mask_token"][None, None]
    theirs.load_state_dict(weights | {"pos_embed": theirs.pos_embed})
    with torch.no_grad():  # float32 in theirs
        theirs.pos_embed[:, 1:] = vit.sincos(4, 4, 24)
    return theirs


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_encoder_and_decoder_are_lightly_s(pool):
    module, given = learner(SPEC, pool), batch()
    place = order(given)
    seen, missing = place[:, :4], place[:, 4:]
    encoder = MaskedVisionTransformerTIMM(
        module.backbone, weight_initialization="skip", pos_embed_initialization="skip"
    ).double()
    keep = torch.cat([torch.zeros(IMAGES, 1, dtype=torch.long), 1 + seen], dim=1)
    theirs = encoder.encode(given.view_VBCHW[0], idx_keep=keep)
    mine = vit.encode(module.backbone, vit.embed(module.backbone, given.view_VBCHW[0]), seen)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)

    mine = module.backbone.fc_norm(mine)
    embedded = module.decoder.embed(mine)
    whole = torch.zeros(IMAGES, 1 + PATCHES, 24, dtype=torch.float64)
    whole = whole.scatter(1, keep[:, :, None].expand(-1, -1, 24), embedded)
    decoded = their_decoder(module.decoder)(whole, idx_mask=1 + missing)[:, 1:]
    torch.testing.assert_close(module.decoder(mine, seen, PATCHES), decoded, rtol=1e-9, atol=1e-12)


def test_patches_targets_and_positions_are_lightly_s():
    image = batch().view_VBCHW[0]
    assert torch.equal(vit.patched(image, PATCH), patchify(image, PATCH))
    patch = vit.patched(image, PATCH)
    torch.testing.assert_close(normalised_pixels(patch), normalize_mean_var(patch), rtol=1e-12, atol=1e-12)
    theirs = get_2d_sine_cosine_positional_embedding(24, 7, cls_token=False)
    mine = vit.sincos(7, 7, 24)
    np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-6)  # theirs are float32


@pytest.mark.parametrize("patches", [196, 36, 64])
def test_as_many_patches_are_seen_as_in_lightly(patches):
    keep, mask = random_token_mask((1, 1 + patches), mask_ratio=0.75)
    assert keep.shape[1] - 1 == patches - hidden_patches(patches, 0.75)
    assert mask.shape[1] == hidden_patches(patches, 0.75)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_the_squared_error_of_missing_patches(normalised):
    module, given = learner(SPEC.replace({"normalised": normalised})), batch()
    image, place = given.view_VBCHW[0], order(given)
    errors, squares = [], []
    for i in range(IMAGES):
        seen, missing = place[i, :4], place[i, 4:]
        embedded = module.backbone.patch_embed(image[i : i + 1])[0] + module.backbone.pos_embed[0, 1:]
        first = module.backbone.cls_token[0] + module.backbone.pos_embed[0, :1]
        encoded = encoded_by_hand(module.backbone, torch.cat([first, embedded[seen]]))
        decoded = module.decoder(encoded[None], seen[None], PATCHES)[0]
        for where in missing.tolist():
            target = patch_of(image[i], where).tolist()
            if normalised:
                mean = sum(target) / len(target)
                variance = sum((one - mean) ** 2 for one in target) / (len(target) - 1)
                target = [(one - mean) / (variance + 1e-6) ** 0.5 for one in target]
            answer = (module.head.weight @ decoded[where] + module.head.bias).tolist()
            errors += [(one - other) ** 2 for one, other in zip(answer, target, strict=True)]
            squares += [one**2 for one in target]
    losses = module(given)
    assert losses.total.item() == pytest.approx(sum(errors) / len(errors), rel=1e-9)
    if normalised:
        assert losses.parts["constant_loss"].item() == pytest.approx(sum(squares) / len(squares), rel=1e-9)
    else:
        assert losses.parts == {}


def test_only_seen_patches_reach_the_encoder():
    module, given = learner(SPEC), batch()
    features = module(given).features_BD
    image = given.view_VBCHW[0].clone()
    for i, missing in enumerate(order(given)[:, 4:]):
        for place in missing.tolist():
            top, left = PATCH * (place // 4), PATCH * (place % 4)
            image[i, :, top : top + PATCH, left : left + PATCH] = 0.0
    given.view_VBCHW[0] = image
    assert torch.equal(module(given).features_BD, features)


def test_a_blank_patch_has_zeros_for_a_target():
    patch = torch.full((1, 1, 64), 0.7) + 1e-7 * torch.randn(64)
    assert normalised_pixels(patch).abs().max() < 1e-3
    module = learner(SPEC)
    given = batch()
    given.view_VBCHW[0] = torch.full_like(given.view_VBCHW[0], 0.3)
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.zero_()
    assert module(given).total.item() < 1e-6
    assert SPEC.trivial_loss(classes=0, labels_an_image=1, batch_images=8) is None  # which blank patches move


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_every_trained_weight_gets_a_gradient(pool):
    module = learner(SPEC, pool)
    module(batch()).total.backward()
    assert all(value.grad is not None and value.grad.any() for value in module.parameters())


def test_another_pass_hides_other_patches():
    assert not torch.equal(order(batch(0)), order(batch(1)))
    assert torch.equal(order(batch(0)).sort(1).values, torch.arange(PATCHES).expand(IMAGES, -1))


def test_a_prediction_of_means_is_called_a_collapse():
    module = learner(SPEC)
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.zero_()
    losses = module(batch())
    row = {"loss": losses.total.item()} | {name: float(value) for name, value in losses.parts.items()}
    found = SPEC.collapse(row)
    assert found is not None
    assert found.startswith("every patch is predicted as its mean: the loss is 0.")
    assert SPEC.collapse(row | {"loss": 0.9 * row["constant_loss"]}) is None
    assert SPEC.collapse({"loss": 1.0}) is None


def test_the_encoder_pays_for_what_it_sees():
    assert MAE().passes([1.0]) == 0.75


def test_impossible_fields_are_refused():
    with pytest.raises(SpecError, match=r"objective.decoder_heads: must divide the decoder's width of 512; got 7"):
        Holder.parse({"objective": {"kind": "mae", "decoder_heads": 7}})
    with pytest.raises(SpecError, match=r"objective.masked_share: must be greater than 0; got 0.0"):
        Holder.parse({"objective": {"kind": "mae", "masked_share": 0.0}})


def test_a_backbone_without_patches_is_refused():
    from scaleback.pretrain.spec import refuse_impossible
    from scaleback.recipes import PRETRAIN_RECIPES
    from scaleback.sources.named import Digits

    given = {"recipe": PRETRAIN_RECIPES["mae-small"], "source": Digits(), "images": 100, "objective": SPEC}
    refuse_impossible(backbone=backbone().replace({"image_px": 24}), **given)
    with pytest.raises(ValueError, match=r"mae hides patches of a plain ViT; got 'resnet18'"):
        refuse_impossible(backbone=Backbone(model="resnet18", image_px=24), **given)
