"""Inside plain vision transformers of timm: with and without class token, registers, positions of prefix tokens."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scaleback.backbones import Backbone
from scaleback.objectives.learners import vit

KINDS = {
    "class token": {"model": "vit_tiny_patch16_224"},
    "mean of patches": {"model": "vit_tiny_patch16_224", "pool": "avg"},
    "class token without a position": {"model": "deit3_small_patch16_224"},
    "registers, no class token": {"model": "vit_betwixt_patch16_reg4_gap_256"},
    "registers and a class token": {"model": "vit_small_patch14_reg4_dinov2"},
    "norm before the blocks": {"model": "vit_base_patch16_clip_224"},
}
SIDE, PATCH, WIDTH = 24, 8, 16
PATCHES = (SIDE // PATCH) ** 2


@pytest.fixture(params=KINDS)
def backbone(request):
    spec = Backbone(image_px=SIDE, channels=1, patch_px=PATCH, width=WIDTH, depth=2, heads=2, **KINDS[request.param])
    assert spec.has_tokens
    module = spec.build(0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():  # not at its start, where norms, registers and scales are trivial
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def pictures(side=SIDE, count=3):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, 1, side, side))).float()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_features_of_the_model_s_own_size_are_the_model_s(backbone):
    assert torch.equal(vit.features(backbone, pictures()), backbone(pictures()))


def test_all_patches_embedded_and_encoded_are_timm_s_tokens(backbone):
    encoded = vit.encode(backbone, vit.embed(backbone, pictures()))
    close(encoded, backbone.forward_features(pictures()))
    close(vit.pool(backbone, encoded), backbone(pictures()))
    assert encoded.shape == (3, backbone.num_prefix_tokens + PATCHES, WIDTH)


def test_patches_in_another_order_are_encoded_alike(backbone):
    order = torch.tensor([[4, 0, 8, 2, 6, 1, 3, 5, 7]]).expand(3, -1)
    tokens, prefix = vit.embed(backbone, pictures()), backbone.num_prefix_tokens
    close(vit.encode(backbone, tokens, order)[:, prefix:], vit.taken(vit.encode(backbone, tokens)[:, prefix:], order))


def test_hidden_patches_do_not_reach_what_is_encoded(backbone):
    kept = torch.tensor([[0, 5], [7, 2], [3, 4]])
    tokens = vit.embed(backbone, pictures()).detach().requires_grad_()
    encoded = vit.encode(backbone, tokens, kept)
    assert encoded.shape == (3, backbone.num_prefix_tokens + 2, WIDTH)
    encoded.square().sum().backward()
    seen = torch.zeros(3, PATCHES, dtype=torch.bool).scatter(1, kept, True)
    assert torch.equal(tokens.grad.abs().sum(2) > 0, seen)


def test_a_few_patches_are_encoded_as_if_the_others_were_never_there(backbone):
    kept = torch.tensor([[1, 6, 8]])
    tokens = vit.embed(backbone, pictures(count=1))
    alone = tokens[:, kept[0]] + vit.positions(backbone, PATCHES)[:, kept[0]]
    prefix = [value for value in (backbone.cls_token, backbone.reg_token) if value is not None]
    if prefix:
        prefix = torch.cat(prefix, dim=1)
        if not backbone.no_embed_class:
            prefix = prefix + backbone.pos_embed[:, : prefix.shape[1]]
        alone = torch.cat([prefix, alone], dim=1)
    close(vit.encode(backbone, tokens, kept), backbone.norm(backbone.blocks(backbone.norm_pre(alone))))


@pytest.mark.parametrize("side", [16, 40])
def test_images_of_another_size_get_interpolated_positions(backbone, side):
    count = (side // PATCH) ** 2
    prefix = backbone.pos_embed.shape[1] - PATCHES
    own = backbone.pos_embed[:, prefix:].reshape(1, 3, 3, WIDTH).permute(0, 3, 1, 2)
    expected = F.interpolate(own, (side // PATCH, side // PATCH), mode="bicubic", antialias=True)
    positions = vit.positions(backbone, count)
    close(positions, expected.permute(0, 2, 3, 1).reshape(1, count, WIDTH))
    found = vit.features(backbone, pictures(side))
    backbone.set_input_size(img_size=side)  # timm's own way
    assert found.shape == (3, WIDTH)
    close(found, backbone(pictures(side)))


def test_positions_of_the_own_grid_are_the_model_s(backbone):
    own = vit.positions(backbone, PATCHES)
    assert own.shape == (1, PATCHES, WIDTH)
    assert torch.equal(own[0], backbone.pos_embed[0, -PATCHES:])


def test_patch_tokens_are_normalised_once(backbone):
    encoded = vit.encode(backbone, vit.embed(backbone, pictures()))
    tokens = vit.patch_tokens(backbone, encoded)
    assert tokens.shape == (3, PATCHES, WIDTH)
    last = backbone.norm if isinstance(backbone.norm, torch.nn.LayerNorm) else backbone.fc_norm
    centred = (tokens - last.bias) / last.weight
    assert centred.mean(2).abs().max() < 1e-4
    close(centred.var(2, correction=0), torch.ones(3, PATCHES))


def test_a_backbone_that_is_no_vit_gives_its_own_features_at_any_size():
    resnet = Backbone(model="test_resnet", image_px=32, channels=1).build(0).eval()
    for side in (32, 48):
        assert torch.equal(vit.features(resnet, pictures(side)), resnet(pictures(side)))


def test_patched_pixels_are_those_of_a_plain_loop():
    image = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    expected = [
        [
            image[number, channel, row + y, column + x]
            for y in range(2)
            for x in range(2)
            for channel in range(3)
        ]
        for number in range(2)
        for row in (0, 2)
        for column in (0, 2, 4)
    ]  # fmt: skip
    assert vit.patched(image, 2).tolist() == torch.tensor(expected).reshape(2, 6, 12).tolist()


def test_patched_pixels_are_in_the_order_of_the_embedded_patches(backbone):
    pixels = vit.patched(pictures(), vit.patch_px(backbone))
    weight = backbone.patch_embed.proj.weight.permute(0, 2, 3, 1).reshape(WIDTH, -1)
    bias = 0 if backbone.patch_embed.proj.bias is None else backbone.patch_embed.proj.bias
    close(pixels @ weight.T + bias, vit.embed(backbone, pictures()))


def test_taken_rows_are_those_of_each_image():
    value = torch.arange(2 * 4 * 3).reshape(2, 4, 3)
    found = vit.taken(value, torch.tensor([[3, 0], [1, 1]]))
    assert torch.equal(found, torch.stack([value[0][[3, 0]], value[1][[1, 1]]]))


@pytest.mark.parametrize(
    "model",
    [
        *(kind["model"] for kind in KINDS.values()),
        "cait_xxs24_224",
        "eva02_tiny_patch14_224",
        "beit_base_patch16_224",
        "vit_base_patch16_siglip_224",
        "vit_relpos_small_patch16_224",
        "vit_small_r26_s32_224",
        "deit_tiny_distilled_patch16_224",
        "swin_tiny_patch4_window7_224",
        "resnet18",
    ],
)
def test_what_is_plain_is_what_backbones_say_has_tokens(model):
    spec = Backbone(model=model, image_px=224)
    with torch.device("meta"):
        built = spec.build(0)
    assert vit.is_plain(built) is spec.has_tokens
