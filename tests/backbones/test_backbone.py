"""What a backbone is said to take equals what the built model has; what timm does not know is refused."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaleback.backbones import Backbone
from scaleback.backbones.backbone import PLAIN_VITS
from scaleback.core.errors import Refusal, SpecError

SHAPES = [
    {"model": "vit_tiny_patch16_224", "image_px": 32},
    {"model": "vit_tiny_patch16_224", "image_px": 32, "channels": 1},
    {
        "model": "vit_tiny_patch16_224",
        "image_px": 16,
        "channels": 1,
        "patch_px": 8,
        "width": 16,
        "depth": 1,
        "heads": 2,
    },
    {
        "model": "vit_tiny_patch16_224",
        "image_px": 24,
        "patch_px": 4,
        "width": 48,
        "depth": 3,
        "heads": 4,
        "mlp_ratio": 2.6,
    },
    {"model": "vit_base_patch16_224", "image_px": 224, "depth": 1, "drop_path": 0.5},
    {"model": "resnet18", "image_px": 32},
    {"model": "resnet18", "image_px": 64, "channels": 1},
    {"model": "test_vit", "image_px": 64},
    {"model": "convnext_atto", "image_px": 32},
]


def counted(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_parameters_and_operations_are_those_of_the_built_model(shape):
    spec = Backbone(**shape)
    module = spec.build(0).eval()
    image = torch.zeros(1, spec.channels, spec.image_px, spec.image_px)
    # The counter knows attention as matrix products only: it passes over the CPU's fused kernel.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        features = module(image)
    assert features.shape == (1, module.num_features)
    assert spec.cost().parameters == counted(module)
    assert spec.cost().forward_flops == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("model", PLAIN_VITS)
def test_the_closed_form_holds_for_every_plain_vit(model):
    spec = Backbone(model=model, image_px=PLAIN_VITS[model][3] * 4)
    with torch.device("meta"):
        built = spec.build(0)
    assert spec.cost().parameters == counted(built)
    assert PLAIN_VITS[model] == (
        built.embed_dim,
        len(built.blocks),
        built.blocks[0].attn.num_heads,
        built.patch_embed.patch_size[0],
    )


def test_the_paper_s_vit_tiny_has_the_known_size():
    # ViT-Ti/16 at 224 px: 5.7 M parameters with its head of 1,000 classes (192,000 + 1,000), 1.26 G multiply-adds.
    cost = Backbone(model="vit_tiny_patch16_224", image_px=224).cost()
    assert cost.parameters == 5_717_416 - 193_000
    assert cost.forward_flops == pytest.approx(2 * 1.26e9, rel=0.01)
    assert cost.training_flops == 3 * cost.forward_flops


def test_fresh_weights_depend_on_the_seed_only(tiny_vit):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = tiny_vit.build(7).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = tiny_vit.build(7).state_dict(), tiny_vit.build(8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["patch_embed.proj.weight"], other["patch_embed.proj.weight"])


def test_overrides_left_out_keep_timm_s_values():
    bare, spelled = (
        Backbone(model="vit_tiny_patch16_224", image_px=32, **changes)
        for changes in ({}, {"patch_px": 16, "width": 192, "depth": 12, "heads": 3, "mlp_ratio": 4.0})
    )
    assert bare.cost() == spelled.cost()
    assert counted(bare.build(0)) == counted(spelled.build(0))


VIT = {"model": "vit_tiny_patch16_224", "image_px": 32}


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        (
            VIT | {"model": "vit_tny_patch16_224"},
            "model: unknown timm model, *; got 'vit_tny_patch16_224'; the nearest known name is 'vit_tiny_patch16_224'",
        ),
        (
            VIT | {"model": "resnet5"},
            "model: unknown timm model, * are known; got 'resnet5'; the nearest known name is 'resnet50'",
        ),
        (VIT | {"widht": 64}, "widht: unknown field, known are *; got 'widht'; the nearest known name is 'width'"),
        (VIT | {"image_px": 40}, "image_px: must divide into patches of 16 px; got 40"),
        (VIT | {"width": 64}, "heads: must divide the width of 64; got 3"),
        (VIT | {"image_px": 2}, "image_px: must be greater than or equal to 4; got 2"),
        (VIT | {"drop_path": 1.0}, "drop_path: must be less than 1; got 1.0"),
        (
            {"model": "resnet18", "image_px": 32, "patch_px": 8},
            "model: must accept the overrides and image_px (*); got 'resnet18'",
        ),
        (
            {"model": "resnet18", "image_px": 32, "depth": 8},
            "model: must accept the overrides and image_px (*); got 'resnet18'",
        ),
        ({"model": "test_vit", "image_px": 50}, "model: must accept the overrides and image_px (*); got 'test_vit'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(plain, line):
    with pytest.raises(SpecError) as caught:
        Backbone.parse(plain)
    start, _, end = line.partition("*")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_no_image_has_are_refused(channels):
    with pytest.raises(SpecError, match=r"^channels: "):
        Backbone.parse(VIT | {"channels": channels})


PLAIN = ["vit_tiny_patch16_224", "test_vit", "deit3_small_patch16_224", "vit_betwixt_patch16_reg4_gap_256"]
OTHER = [
    "resnet18",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "vit_relpos_small_patch16_224",
    "vit_so400m_patch14_siglip_224",
]


@pytest.mark.parametrize(("model", "tokens"), [*((name, True) for name in PLAIN), *((name, False) for name in OTHER)])
def test_plain_vits_have_tokens_that_can_be_hidden(model, tokens):
    small = {"width": 32, "depth": 1, "heads": 2} if "vit" in model else {}
    assert Backbone(model=model, image_px=224, **small).has_tokens is tokens


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "deit3_small_patch16_224"])
def test_a_vit_pools_as_it_is_told(model, pool):
    spec = Backbone(model=model, image_px=32, channels=1, patch_px=8, width=16, depth=1, heads=2, pool=pool)
    module = spec.build(0).eval()
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = module.forward_features(image)
    expected = tokens[:, 0] if pool == "token" else module.fc_norm(tokens[:, 1:].mean(1))
    torch.testing.assert_close(module(image), expected)
    assert spec.cost().parameters == counted(module)
    assert spec.timm_arguments()["global_pool"] == pool


def test_pooling_is_a_choice_of_plain_vits_and_part_of_identity():
    with pytest.raises(SpecError, match=r"^pool: is a choice of plain ViTs; got 'avg'$"):
        Backbone.parse({"model": "resnet18", "image_px": 32, "pool": "avg"})
    plain = Backbone.parse(VIT)
    assert "global_pool" not in plain.timm_arguments()
    assert plain.fingerprint != Backbone.parse(VIT | {"pool": "avg"}).fingerprint


@pytest.mark.parametrize(
    ("plain", "size_px", "line"),
    [
        (VIT, 48, None),
        (VIT, 40, "size_px must divide into patches of 16 px; got 40"),
        (VIT | {"patch_px": 8}, 40, None),
        ({"model": "test_vit", "image_px": 64}, 48, None),
        ({"model": "test_vit", "image_px": 64}, 40, "size_px must divide into patches of 16 px; got 40"),
        ({"model": "resnet18", "image_px": 32}, 41, None),
        (
            {"model": "swin_tiny_patch4_window7_224", "image_px": 224},
            112,
            "swin_tiny_patch4_window7_224 looks at images of its own size only; got 112",
        ),
        ({"model": "swin_tiny_patch4_window7_224", "image_px": 224}, 224, None),
    ],
)
def test_views_of_a_size_that_a_model_cannot_look_at_are_refused(plain, size_px, line):
    spec = Backbone.parse(plain)
    if line is None:
        spec.refuse_size(size_px, "recipe.views")
        return
    with pytest.raises(Refusal) as caught:
        spec.refuse_size(size_px, "recipe.views")
    assert (caught.value.field, str(caught.value)) == ("recipe.views", line)
