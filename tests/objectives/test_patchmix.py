"""PatchMix: cells and shares by plain loops, targets by counting and as released, the loss by loops."""

import math

import numpy as np
import pytest
import torch

from scaleback.backbones import Backbone, width_of
from scaleback.core.errors import Refusal, SpecError
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.learners.patchmix import CELLS, draw_steps, mixed, shares, soft_loss
from scaleback.objectives.patchmix import PatchMix
from tests.contracts.test_objectives import batch, learner

SPEC = PatchMix(hidden=32, output=16, ring=4)


def steps(cells=4, images=2, seed=0):
    return draw_steps(np.random.default_rng(seed), cells, images)


def pictures(count, size=8, channels=2):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, channels, size, size))).float()


@pytest.mark.parametrize(("cells", "images", "own"), [(4, 2, 8), (4, 4, 4), (3, 2, 5), (5, 3, 9), (2, 4, 1)])
def test_every_image_gives_equally_many_cells_and_the_rest_are_its_own(cells, images, own):
    count = steps(cells, images).flatten().bincount()
    assert count.tolist() == [own] + [cells * cells // images] * (images - 1)


def test_cells_are_in_an_order_of_their_own_each_time():
    assert len({tuple(steps(seed=seed).flatten().tolist()) for seed in range(50)}) > 45
    first = np.mean([steps(seed=seed).numpy() for seed in range(2_000)], axis=0)
    assert np.abs(first - 0.5).max() < 0.06  # each cell is another's half of the time


@pytest.mark.parametrize(("cells", "images", "ring"), [(4, 2, 3), (2, 3, 6), (4, 3, 3)])
def test_mixed_images_are_those_of_a_plain_loop(cells, images, ring):
    image, step = pictures(6), steps(cells, images)
    side = 8 // cells
    expected = image.clone()
    for number in range(6):
        for row in range(cells):
            for column in range(cells):
                source = number // ring * ring + (number + int(step[row, column])) % ring
                area = (slice(None), slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
                expected[number][area] = image[source][area]
    assert torch.equal(mixed(image, step, ring), expected)


def test_every_cell_of_every_image_is_seen_once():
    image = pictures(8)
    found = mixed(image, steps(4, 3), 4)
    for before, after in zip(
        image.permute(1, 2, 3, 0).flatten(0, 2), found.permute(1, 2, 3, 0).flatten(0, 2), strict=True
    ):
        assert torch.equal(before.sort().values, after.sort().values)


def test_cells_need_not_divide_a_view():
    found = mixed(torch.arange(2.0)[:, None, None, None].expand(2, 1, 10, 10), steps(7, 2), 2)
    assert found.shape == (2, 1, 10, 10)
    assert 0.3 < found[0].mean() < 0.7
    assert torch.equal(found[0] + found[1], torch.ones(1, 10, 10))


@pytest.mark.parametrize(("cells", "images", "ring"), [(4, 2, 4), (3, 2, 3), (5, 3, 5), (4, 4, 4)])
def test_shares_are_counted_cells(cells, images, ring):
    step = steps(cells, images)
    image = torch.arange(float(ring))[:, None, None, None].expand(ring, 1, cells, cells)
    found = mixed(image, step, ring)
    counted = [[(found[row] == column).float().mean().item() for column in range(ring)] for row in range(ring)]
    torch.testing.assert_close(shares(step, ring), torch.tensor(counted))


@pytest.mark.parametrize("images", [2, 4])
def test_targets_are_the_released_ones_in_a_long_ring(images):
    ring = 2 * images  # more than 2 x images - 1
    share = shares(steps(4, images), ring)
    for row in range(ring):
        source, mix = [0.0] * ring, [0.0] * ring
        for step in range(images):
            source[(row + step) % ring] = 1 / images
        for apart in range(1 - images, images):
            mix[(row + apart) % ring] = (1 - abs(apart) / images) / images
        assert share[row].tolist() == pytest.approx(source)
        assert (share @ share.T)[row].tolist() == pytest.approx(mix)


def test_two_mixed_images_target_is_the_chance_that_cells_share_a_source():
    ring, first, second = 4, steps(3, 2, seed=1), steps(3, 2, seed=2)
    target = shares(first, ring) @ shares(second, ring).T
    for row in range(ring):
        for column in range(ring):
            sources = [
                [(number + int(step)) % ring for step in grid.flatten()]
                for number, grid in ((row, first), (column, second))
            ]
            same = np.mean([one == other for one in sources[0] for other in sources[1]])
            assert target[row, column].item() == pytest.approx(same)
    assert target.sum(1).tolist() == pytest.approx([1] * ring)


def log_softmax(scores):
    return [score - math.log(sum(math.exp(other) for other in scores)) for score in scores]


def cross_entropy(query, key, target, temperature):
    """Mean over queries of -sum of target x logarithm of the softmax of cosines; plain loops."""
    unit = lambda row: row / math.sqrt(sum(value**2 for value in row))  # noqa: E731
    losses = []
    for row, mine in enumerate(query):
        found = log_softmax([sum(unit(mine) * unit(other)) / temperature for other in key])
        losses.append(-sum(weight * value for weight, value in zip(target[row], found, strict=True)))
    return np.mean(losses)


def test_targets_lie_in_the_images_own_ring():
    log_chance = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 6))).log_softmax(1)
    target = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]], dtype=torch.float64)
    whole = torch.block_diag(target, target)
    assert soft_loss(log_chance, target).item() == pytest.approx(-(whole * log_chance).sum().item() / 6)


@pytest.mark.parametrize("local_views", [0, 2])
def test_the_loss_is_that_of_plain_loops(local_views, tiny_vit):
    objective = SPEC.replace({"local_views": local_views, "temperature": 0.3})
    module, given = learner(objective, tiny_vit), batch(objective)
    grids = [draw_steps(given.generator(f"patchmix {view}"), 2, 2) for view in range(2 + local_views)]
    mix = [mixed(view, grid, 4) for view, grid in zip(given.view_VBCHW, grids, strict=True)]

    def query(image):
        return module.query(image)[1].detach().double().numpy()

    def key(image):
        return module.key(image).double().numpy()

    first, second, *local = given.view_VBCHW
    own, share = np.eye(8), np.kron(np.eye(2), shares(grids[0], 4).numpy())
    keys, mixed_query = (key(first), key(second)), query(mix[1])
    expected = {
        "clean_loss": cross_entropy(query(first), keys[1], own, 0.3),
        "source_loss": cross_entropy(mixed_query, keys[0], share, 0.3) / 2,
        "mix_loss": cross_entropy(mixed_query, key(mix[0]), share @ share.T, 0.3) / 2,
    }
    for name, views, target in (("local_loss", local, own), ("mixed_local_loss", mix[2:], share)):
        if local:
            found = query(torch.cat(views)).reshape(local_views, 8, -1)
            expected[name] = np.mean([sum(cross_entropy(one, other, target, 0.3) for other in keys) for one in found])
    losses = module(given)
    for name, value in expected.items():
        assert losses.parts[name].item() == pytest.approx(value, rel=1e-5), name
    assert losses.total.item() == pytest.approx(sum(expected.values()), rel=1e-5)
    assert not torch.equal(grids[0], grids[1]) or not torch.equal(grids[1], grids[-1])


def test_mixed_pixels_reach_the_encoder(tiny_vit):
    module, given = learner(SPEC, tiny_vit), batch(SPEC)
    seen = []
    module.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(given)
    assert torch.equal(seen[0], given.view_VBCHW[0])
    assert not torch.equal(seen[1], given.view_VBCHW[1])
    own = (seen[1] == given.view_VBCHW[1]).float().mean()
    assert own == pytest.approx(0.5)


def test_a_ring_s_mix_does_not_depend_on_the_images_around_it(tiny_vit):
    module = learner(SPEC, tiny_vit)
    whole, _ = module._mix(batch(SPEC), 0)
    half, _ = module._mix(batch(SPEC, images=slice(4, 8)), 0)
    assert torch.equal(whole[4:], half)
    assert not torch.equal(module._mix(batch(SPEC, step=1), 0)[0], whole) or not torch.equal(
        module._mix(batch(SPEC, step=2), 0)[0], whole
    )


@pytest.mark.parametrize(("cells", "count"), [(None, CELLS), (4, 4)])
def test_a_resnet_has_cells_too(cells, count):
    backbone = Backbone(model="test_resnet", image_px=28, channels=1).build(0)
    module = SPEC.replace({"cells": cells}).build(
        backbone, width=width_of(backbone), classes=0, generator=torch.Generator().manual_seed(0)
    )
    given = batch(SPEC)
    given.view_VBCHW[:] = [torch.arange(8.0)[:, None, None, None].expand(8, 1, 28, 28).contiguous()] * 2
    found, _ = module._mix(given, 0)
    side = 28 // count
    for row in range(count):
        for column in range(count):
            assert len(found[0, 0, row * side : (row + 1) * side, column * side : (column + 1) * side].unique()) == 1
    assert module(given).total.isfinite()


def test_defaults_are_the_released_ones(tiny_vit):
    preset = OBJECTIVE_PRESETS["patchmix"]
    assert (preset.temperature, preset.momentum, preset.mixed, preset.local_views) == (0.2, 0.996, 2, 8)
    assert (preset.hidden, preset.output, preset.projector_layers, preset.predictor_layers) == (4_096, 256, 3, 2)
    assert preset.view_augmentations == (0, 1, 2, 2, 2, 2, 2, 2, 2, 2)
    module = learner(SPEC, tiny_vit)
    assert module.backbone.pos_embed.requires_grad
    assert module.backbone.patch_embed.proj.weight.requires_grad
    assert module.slice_multiple == 4
    assert module.kept == "backbone"


def test_one_point_has_the_trivial_loss(tiny_vit):
    objective = SPEC.replace({"local_views": 1})
    module, given = learner(objective, tiny_vit), batch(objective)
    for view in given.view_VBCHW:
        view.zero_()
    trivial = objective.trivial_loss(classes=0, labels_an_image=1, batch_images=8)
    assert module(given).total.item() == pytest.approx(trivial, rel=1e-5)
    assert trivial == 6 * math.log(8)
    assert SPEC.trivial_loss(classes=0, labels_an_image=1, batch_images=8) == 2 * math.log(8)


def test_passes_are_those_that_are_made(tiny_vit):
    objective = SPEC.replace({"local_views": 2})
    module, given = learner(objective, tiny_vit), batch(objective)
    made = {"backbone": 0, "teacher": 0}
    module.backbone.register_forward_hook(lambda _, inputs, __: made.update(backbone=made["backbone"] + len(inputs[0])))
    module.teacher["backbone"].register_forward_hook(
        lambda _, inputs, __: made.update(teacher=made["teacher"] + len(inputs[0]))
    )
    module(given)
    assert objective.passes([1.0] * 4) == (3 * made["backbone"] + made["teacher"]) / 8


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"ring": 2, "mixed": 3}, "ring: must hold the 3 images that are mixed; got 2"),
        ({"mixed": 1}, "mixed: must be greater than or equal to 2; got 1"),
        ({"cells": 2, "mixed": 5}, "cells: must leave each of 5 images a cell; got 2"),
        ({"local_views": -1}, "local_views: must be greater than or equal to 0; got -1"),
    ],
)
def test_impossible_fields_are_refused(fields, line):
    with pytest.raises(SpecError) as caught:
        PatchMix.parse(fields)
    assert str(caught.value) == line


def test_more_images_than_a_view_has_cells_are_refused(tiny_vit):
    objective = SPEC.replace({"mixed": 5, "ring": 8})
    with pytest.raises(Refusal, match=r"^must not exceed the 4 cells of a view; got 5$"):
        learner(objective, tiny_vit)(batch(objective))


def test_views_of_different_sizes_have_shares_of_their_own(tiny_vit):
    module, given = learner(SPEC, tiny_vit), batch(SPEC)
    given.view_VBCHW[1] = torch.randn(8, 1, 24, 24, generator=torch.Generator().manual_seed(0))  # nine patches
    (first, first_share), (second, share) = module._mix(given, 0), module._mix(given, 1)
    assert share[0, 0].item() == pytest.approx(5 / 9)
    key, query = module.key(first).double().numpy(), module.query(second)[1].detach().double().numpy()
    target = np.kron(np.eye(2), (share @ first_share.T).numpy())
    expected = cross_entropy(query, key, target, 0.2) / 2
    assert module(given).parts["mix_loss"].item() == pytest.approx(expected, rel=1e-5)
