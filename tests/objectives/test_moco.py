"""MoCo v3 against its formulas by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from scaleback.backbones import Backbone, width_of
from scaleback.core.errors import Refusal, SpecError
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.learners import vit
from scaleback.objectives.learners.heads import mlp
from scaleback.objectives.moco import MoCoV3
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.torchvision_operators import declare
from tests.contracts.test_objectives import IMAGES, SIZE, batch

declare()  # before lightly, which imports torchvision
from lightly.models.modules.heads import MoCoProjectionHead  # noqa: E402
from lightly.models.utils import get_2d_sincos_pos_embed  # noqa: E402

SPEC = MoCoV3(hidden=24, output=12, projector_layers=2)


def built(spec, backbone, seed=0):
    model = backbone.build(seed)
    return spec.build(model, width=width_of(model), classes=0, generator=torch.Generator().manual_seed(seed))


def learner(spec, tiny_vit, dtype=torch.float64):
    """In double precision, its teacher apart from its student."""
    module = built(spec, tiny_vit).to(dtype)
    generator = torch.Generator().manual_seed(9)
    for parameter in module.teacher.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return module


def pictures(spec, dtype=torch.float64, step=0):
    given = batch(spec, step)
    return dataclasses.replace(given, view_VBCHW=[view.to(dtype) for view in given.view_VBCHW])


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def log_chance_by_hand(query, keys, temperature):
    """Logarithm of each key's share of the softmax over cosines, of one query."""
    scores = [cosine(query, key) / temperature for key in keys]
    return [score - math.log(sum(math.exp(other) for other in scores)) for score in scores]


def info_nce_by_hand(queries, keys, temperature):
    """2 x temperature x cross-entropy of each query against its own key."""
    found = [-log_chance_by_hand(query, keys, temperature)[i] for i, query in enumerate(queries)]
    return 2 * temperature * sum(found) / len(found)


def head_by_hand(value, head):
    """Linear, batch norm and ReLU layers one after the other, in numpy."""
    for part in head:
        if isinstance(part, nn.Linear):
            assert part.bias is None
            value = value @ part.weight.detach().numpy().T
        elif isinstance(part, nn.BatchNorm1d):
            value = (value - value.mean(0)) / np.sqrt(value.var(0) + part.eps)
            if part.affine:
                value = value * part.weight.detach().numpy() + part.bias.detach().numpy()
        elif isinstance(part, nn.ReLU):
            value = np.maximum(value, 0)
    return value


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("predictor_norm", [True, False])
def test_the_loss_is_that_of_the_formulas(temperature, predictor_norm, tiny_vit):
    spec = SPEC.replace({"temperature": temperature, "predictor_norm": predictor_norm})
    module, given = learner(spec, tiny_vit), pictures(spec)
    queries, keys = [], []
    for view in given.view_VBCHW:
        features = module.backbone(view).detach().numpy()
        queries.append(head_by_hand(head_by_hand(features, module.projector), module.predictor))
        features = module.teacher["backbone"](view).detach().numpy()
        keys.append(head_by_hand(features, module.teacher["projector"]))
    expected = info_nce_by_hand(queries[0], keys[1], temperature) + info_nce_by_hand(queries[1], keys[0], temperature)
    losses = module(given)
    assert losses.total.item() == pytest.approx(expected, rel=1e-9)
    right = [
        np.argmax(log_chance_by_hand(query, keys[1 - way], temperature)) == i
        for way in (0, 1)
        for i, query in enumerate(queries[way])
    ]
    assert losses.parts["accuracy"].item() == pytest.approx(np.mean(right))
    cosines = [cosine(query, key) for query, key in zip(queries[0], keys[1], strict=True)]
    assert losses.parts["positive_similarity"].item() == pytest.approx(np.mean(cosines), abs=1e-6)


def test_a_loss_is_doubled_and_scaled_by_its_temperature(tiny_vit):
    # A plain cross-entropy, as in earlier versions of MoCo, would be ln 8 whatever the temperature.
    spec = SPEC.replace({"temperature": 50.0})
    assert learner(spec, tiny_vit)(pictures(spec)).total.item() / 100 == pytest.approx(2 * math.log(IMAGES), rel=1e-3)
    for temperature in (0.2, 1.0):
        trivial = MoCoV3(temperature=temperature).trivial_loss(classes=0, labels_an_image=1, batch_images=64)
        assert trivial == pytest.approx(4 * temperature * math.log(64))


def test_one_answer_for_all_images_is_at_the_trivial_loss(tiny_vit, monkeypatch):
    module, given = learner(SPEC, tiny_vit), pictures(SPEC)
    constant = torch.ones(IMAGES, 12, dtype=torch.float64)
    monkeypatch.setattr(module, "query", lambda image: (image.flatten(1), constant))
    monkeypatch.setattr(module, "key", lambda image: constant)
    losses = module(given)
    trivial = SPEC.trivial_loss(classes=0, labels_an_image=1, batch_images=IMAGES)
    assert losses.total.item() == pytest.approx(trivial, rel=1e-12)
    row = {name: value.item() for name, value in losses.parts.items()}
    assert SPEC.collapse(row | {"uniformity": 0.0}) == (
        "queries and keys lie on a point or a line: their uniformity is 0.00"
    )
    assert row["uniformity"] == pytest.approx(0, abs=1e-5)


def test_embeddings_on_a_line_are_a_collapse_and_spread_ones_are_not(tiny_vit, monkeypatch):
    module, given = learner(SPEC, tiny_vit), pictures(SPEC)
    line = torch.ones(IMAGES, 12, dtype=torch.float64) * (-1.0) ** torch.arange(IMAGES)[:, None]
    for value, collapsed in ((line, True), (torch.eye(IMAGES, 12, dtype=torch.float64), False)):
        monkeypatch.setattr(module, "query", lambda image, value=value: (image.flatten(1), value))
        monkeypatch.setattr(module, "key", lambda image, value=value: value)
        row = {name: part.item() for name, part in module(given).parts.items()}
        assert (SPEC.collapse(row) is not None) == collapsed
    assert SPEC.collapse({"loss": 1.0}) is None


def test_half_precision_does_not_reach_the_softmax(tiny_vit):
    module, given = built(SPEC, tiny_vit), batch(SPEC)
    query, key = torch.randn(2, IMAGES, 12, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = module.log_chance(query, key)
        assert module(given).total.dtype == torch.float32
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, module.log_chance(query.float(), key.float()))


def test_the_head_is_lightly_s(tiny_vit):
    head = mlp([10, 24, 24, 12], last=nn.BatchNorm1d(12, affine=False), generator=torch.Generator().manual_seed(0))
    theirs = MoCoProjectionHead(10, 24, 12, num_layers=3, batch_norm=True)
    theirs.load_state_dict(
        {f"layers.{name}": value for name, value in head.state_dict().items()}, strict=False
    )  # theirs ends in a batch norm with weights, which are 1 and 0
    value = torch.randn(16, 10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(head(value), theirs(value))


@pytest.mark.parametrize(
    ("fields", "projector", "predictor"),
    [
        ({}, [(16, 4096), (4096, 4096), (4096, 256)], [(256, 4096), (4096, 256)]),
        ({"projector_layers": 2, "hidden": 8, "output": 4}, [(16, 8), (8, 4)], [(4, 8), (8, 4)]),
    ],
)
def test_heads_have_the_paper_s_widths_and_no_bias(fields, projector, predictor, tiny_vit):
    module = built(MoCoV3(**fields), tiny_vit)
    for head, widths in ((module.projector, projector), (module.predictor, predictor)):
        linear = [part for part in head if isinstance(part, nn.Linear)]
        assert [(part.in_features, part.out_features) for part in linear] == widths
        assert all(part.bias is None for part in linear)
        assert isinstance(head[-1], nn.BatchNorm1d)
        assert not head[-1].affine
        assert all(part.affine for part in head[:-1] if isinstance(part, nn.BatchNorm1d))


def test_a_resnet_s_predictor_ends_without_a_norm_and_its_weights_are_timm_s():
    spec = OBJECTIVE_PRESETS["moco-v3-resnet"].replace({"hidden": 8, "output": 4})
    resnet = Backbone(model="resnet10t", image_px=32, channels=1)
    module = built(spec, resnet)
    assert not any(isinstance(part, nn.BatchNorm1d) for part in list(module.predictor)[-2:])
    assert all(part.bias is None for part in module.predictor if isinstance(part, nn.Linear))
    assert all(parameter.requires_grad for parameter in module.backbone.parameters())
    fresh = resnet.build(0).state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in module.backbone.state_dict().items())
    assert (spec.temperature, spec.projector_layers, spec.predictor_layers) == (1.0, 2, 2)


# The vision transformer ---------------------------------------------------------------------------------------------


def test_positions_are_fixed_sines_and_cosines_and_none_for_the_class_token():
    model = Backbone(model="vit_tiny_patch16_224", image_px=48, channels=1, patch_px=8, width=64, heads=2).build(0)
    vit.fix_sincos_positions(model)
    assert not model.pos_embed.requires_grad
    assert not model.pos_embed[:, 0].any()
    found = model.pos_embed[0, 1:].view(6, 6, 64)
    for row in range(6):
        for column in range(6):
            for q in range(16):
                w = 10_000 ** (-q / 16)
                expected = [math.sin(column * w), math.cos(column * w), math.sin(row * w), math.cos(row * w)]
                assert found[row, column, q::16].tolist() == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(model.pos_embed[0], get_2d_sincos_pos_embed(64, 6, cls_token=True), atol=1e-6)


def test_positions_of_a_width_that_four_does_not_divide_end_in_zeros():
    found = vit.sincos(2, 3, 10)
    torch.testing.assert_close(found[:, :8], vit.sincos(2, 3, 8))
    assert not found[:, 8:].any()


def test_weights_are_glorot_s_with_queries_keys_and_values_as_three(tiny_vit):
    model = Backbone(model="vit_tiny_patch16_224", image_px=32, channels=3, patch_px=8, width=96, depth=2).build(0)
    vit.redraw_xavier(model, torch.Generator().manual_seed(0))
    block = model.blocks[1]
    for weight, fans in (
        (block.attn.qkv.weight, 96 + 96),
        (block.attn.proj.weight, 96 + 96),
        (block.mlp.fc1.weight, 96 + 384),
        (block.mlp.fc2.weight, 384 + 96),
        (model.patch_embed.proj.weight, 3 * 8 * 8 + 96),
    ):
        bound = math.sqrt(6 / fans)
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
        assert weight.abs().max().item() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=2e-2)
    assert not any(value.any() for name, value in model.named_parameters() if name.endswith("bias"))
    assert 0 < model.cls_token.std().item() < 3e-6
    assert all(part.weight.eq(1).all() for part in model.modules() if isinstance(part, nn.LayerNorm))


@pytest.mark.parametrize("field", ["frozen_patches", "sincos_positions", "xavier"])
def test_what_is_done_to_a_vit_can_be_left_out(field, tiny_vit):
    fresh = dict(tiny_vit.build(0).named_parameters())

    def state(spec):
        found = dict(built(spec, tiny_vit).backbone.named_parameters())
        return {
            "frozen_patches": not any(found[f"patch_embed.proj.{name}"].requires_grad for name in ("weight", "bias")),
            "sincos_positions": not found["pos_embed"].requires_grad,
            "xavier": not torch.equal(found["blocks.0.attn.qkv.weight"], fresh["blocks.0.attn.qkv.weight"]),
        }

    assert all(state(SPEC).values())
    assert state(SPEC.replace({field: False})) == {**state(SPEC), field: False}


def test_what_is_frozen_stays_through_training(tiny_vit):
    module = built(SPEC, tiny_vit)
    before = {name: value.clone() for name, value in module.backbone.named_parameters()}
    optimizer = torch.optim.AdamW([value for value in module.parameters() if value.requires_grad], lr=1e-2)
    module(batch(SPEC)).total.backward()
    optimizer.step()
    same = {name for name, value in module.backbone.named_parameters() if torch.equal(value, before[name])}
    assert same == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def test_views_of_two_sizes_are_looked_at(tiny_vit):
    given = batch(SPEC)
    given.view_VBCHW[1] = torch.nn.functional.interpolate(given.view_VBCHW[1], (2 * SIZE, 2 * SIZE))
    assert built(SPEC, tiny_vit)(given).total.isfinite()


# The momentum encoder -----------------------------------------------------------------------------------------------


def test_keys_are_those_of_the_release_s_order(tiny_vit):
    """There the momentum encoder moves before each step's keys, by the momentum of the progress at that step."""
    steps = 5
    module = built(SPEC, tiny_vit)
    theirs = {name: value.clone() for name, value in module.teacher.named_parameters()}
    optimizer = torch.optim.SGD([value for value in module.parameters() if value.requires_grad], lr=0.1)
    for step in range(steps):
        momentum = 1 - 0.5 * (1 + math.cos(math.pi * step / steps)) * (1 - SPEC.momentum)
        mine = dict(module.named_parameters())
        for name, value in theirs.items():
            value.mul_(momentum).add_(mine[name].detach(), alpha=1 - momentum)
        for name, value in module.teacher.named_parameters():
            torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=0)
        module(batch(SPEC, step)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        module.after_step((step + 1) / steps)
    assert any(not torch.equal(value, mine[name]) for name, value in module.teacher.named_parameters())


def test_the_teacher_begins_as_the_student_has_no_predictor_and_no_gradient(tiny_vit):
    module = built(SPEC, tiny_vit)
    mine = dict(module.named_parameters())
    for name, value in module.teacher.named_parameters():
        assert torch.equal(value, mine[name])
        assert not value.requires_grad
    assert {name.split(".")[0] for name in module.teacher.state_dict()} == {"backbone", "projector"}
    assert any(name.startswith("teacher.projector.") for name in module.state_dict())
    assert module.kept == "backbone"


def test_four_passes_a_view_queries_and_keys():
    assert SPEC.passes([1.0, 1.0]) == 3 * 2 + 2


# What is refused, and presets ---------------------------------------------------------------------------------------


def test_one_image_has_nothing_to_be_told_from():
    SPEC.refuse(source_classes=None, images=8, batch_images=2)
    with pytest.raises(Refusal, match=r"^needs another image in a \(micro-\)batch to compare one with; got 1$"):
        SPEC.refuse(source_classes=None, images=8, batch_images=1)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("temperature", 0.0, "temperature: must be greater than 0; got 0.0"),
        ("momentum", 1.0, "momentum: must be less than 1; got 1.0"),
        ("hidden", 0, "hidden: must be greater than or equal to 1; got 0"),
        ("predictor_layers", 0, "predictor_layers: must be greater than or equal to 1; got 0"),
    ],
)
def test_impossible_fields_are_refused(field, value, line):
    with pytest.raises(SpecError) as caught:
        MoCoV3.parse({field: value})
    assert str(caught.value) == line


@pytest.mark.parametrize(("name", "batch_images", "lr"), [("moco-v3", 4_096, 2.4e-3), ("sdmp-moco-v3", 1_024, 6e-4)])
def test_the_paper_s_recipe(name, batch_images, lr):
    recipe = PRETRAIN_RECIPES[name]
    assert recipe.budget_images == 300 * 1_281_167
    assert recipe.warmup_images == 40 * 1_281_167
    assert (recipe.batch_images, recipe.optimizer.weight_decay) == (batch_images, 0.1)
    assert recipe.optimizer.lr == pytest.approx(lr)
    first, second = recipe.views
    assert first.crop_scale == second.crop_scale == (0.08, 1.0)
    assert first.jitter == second.jitter == (0.4, 0.4, 0.2, 0.1)
    assert (first.jitter_chance, first.gray_chance, first.flip_horizontal) == (0.8, 0.2, 0.5)
    assert (first.blur_chance, first.solarize_chance) == (1.0, 0.0)
    assert (second.blur_chance, second.solarize_chance) == (0.1, 0.2)
    assert first.blur_sigma_px == (0.1, 2.0)
