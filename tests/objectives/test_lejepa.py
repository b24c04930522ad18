"""LeJEPA: the statistic by numerical integration and by lightly; the loss by loops; what collapses."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from scaleback.core.errors import Refusal, SpecError
from scaleback.objectives.learners.lejepa import sketched
from scaleback.objectives.lejepa import LeJEPA
from scaleback.torchvision_operators import declare
from tests.contracts.test_objectives import batch, learner

declare()  # before lightly, which imports torchvision
from lightly.loss.lejepa_loss import SIGReg, lejepa_invariance_loss  # noqa: E402

RULE = LeJEPA().quadrature
ALONG = torch.ones(1, 1, dtype=torch.float64)  # the only direction of a line


def cloud(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def statistic(sample, end=math.inf):
    """Epps and Pulley, 1983: n times the weighted square distance of two characteristic functions."""

    def distance(t):
        empirical = sum(complex(math.cos(t * x), math.sin(t * x)) for x in sample) / len(sample)
        return abs(empirical - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)

    return len(sample) * quad(distance, -end, end, epsabs=1e-10)[0]


@pytest.mark.parametrize("seed", range(4))
def test_the_statistic_is_the_integral(seed):
    sample = cloud(1, 40, 1, seed=seed) * (0.3 + seed) + 0.2 * seed
    exact = statistic(sample.flatten().tolist())
    found = {points: sketched(sample, ALONG, LeJEPA(points=points).quadrature) for points in (17, 401)}
    assert found[401].item() == pytest.approx(exact, rel=1e-4)
    assert found[17].item() == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("points", "reach"), [(3, 1.0), (17, 5.0), (33, 3.0)])
def test_the_rule_is_the_trapezoidal_one_on_both_sides_of_zero(points, reach):
    sample = cloud(30).numpy()
    t = np.linspace(-reach, reach, points)
    empirical = np.exp(1j * t * sample[:, None]).mean(0)
    heights = np.abs(empirical - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
    rule = LeJEPA(points=points, reach=reach).quadrature
    assert len(rule) == points // 2 + 1
    found = sketched(torch.from_numpy(sample)[None, :, None], ALONG, rule)
    assert found.item() == pytest.approx(30 * np.trapezoid(heights, t), rel=1e-9)


def test_sigreg_is_the_mean_over_views_and_unit_directions():
    views, direction = cloud(3, 20, 4), 5 * cloud(4, 6, seed=1)
    each = [
        sketched((view @ (column / column.norm()))[None, :, None], ALONG, RULE)
        for view in views
        for column in direction.T
    ]
    torch.testing.assert_close(sketched(views, direction, RULE), torch.stack(each).mean())


def test_sigreg_is_lightly_s(monkeypatch):
    views, direction = cloud(3, 20, 4), cloud(4, 6, seed=1)
    theirs = SIGReg(knots=17, t_max=3.0, num_vectors=6).double()
    t = torch.linspace(0, 3, 17, dtype=torch.float64)  # not rounded to float32 first
    weight = torch.full((17,), 6 / 16, dtype=torch.float64)
    weight[[0, -1]] /= 2
    theirs.t, theirs.phi, theirs.weights = t, (-t * t / 2).exp(), weight * (-t * t / 2).exp()
    monkeypatch.setattr(theirs, "_generate_unit_vectors", lambda *_: direction / direction.norm(dim=0))
    mine = sketched(views, direction, LeJEPA(points=33, reach=3.0).quadrature)
    assert mine.item() == pytest.approx(theirs(views).item(), rel=1e-9)


def test_a_normal_cloud_has_a_small_statistic_and_every_other_a_large_one():
    direction, count = cloud(8, 200, seed=1), 500
    normal = cloud(1, count, 8)
    # Of a normal sample its mean is the integral of (1 - exp(-t^2)) exp(-t^2 / 2), whatever the size.
    expected = math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)
    small = sketched(normal, direction, RULE).item()
    assert small == pytest.approx(expected, rel=0.35)
    others = {
        "point": 0 * normal,
        "line": normal[:, :, :1].expand(-1, -1, 8),
        "narrow": 0.5 * normal,
        "shifted": normal + 1,
        "two heaps": normal[:, :, :1].sign().expand(-1, -1, 8),
    }
    for name, other in others.items():
        assert sketched(other, direction, RULE).item() > 5 * small, name


def test_the_gradient_widens_a_point_s_neighbourhood():
    near = (0.1 * cloud(1, 50, 4)).requires_grad_()
    sketched(near, cloud(4, 64, seed=1), RULE).backward()
    assert (near.grad * near).sum() < 0


def projections(module, given):
    rows = module.projector(module.backbone(torch.cat(given.view_VBCHW)))
    return rows.detach().double().unflatten(0, (len(given.view_VBCHW), -1))


def test_the_loss_is_the_sum_by_loops(tiny_vit):
    objective = LeJEPA(global_views=2, local_views=1, hidden=24, output=6, directions=16, weight=0.2)
    module, given = learner(objective, tiny_vit), batch(objective)
    views = projections(module, given)
    drawn = given.generator("lejepa directions").standard_normal((6, 16))
    parts = []
    for view in views:
        for column in drawn.T:
            line = view.numpy() @ (column / np.linalg.norm(column))
            heights = [w * abs(np.exp(1j * t * line).mean() - math.exp(-t * t / 2)) ** 2 for t, w in RULE]
            parts.append(8 * sum(heights))
    centre = (views[0] + views[1]) / 2
    invariance = np.mean([((view - centre) ** 2).mean().item() for view in views])
    losses = module(given)
    assert losses.total.item() == pytest.approx(0.8 * invariance + 0.2 * np.mean(parts), rel=1e-5)
    assert losses.parts["invariance"].item() == pytest.approx(invariance, rel=1e-5)
    assert losses.parts["sigreg"].item() == pytest.approx(np.mean(parts), rel=1e-5)
    assert losses.parts["embedding_std"].item() == pytest.approx(views.numpy().std(1).mean(), rel=1e-5)
    theirs = lejepa_invariance_loss(all_proj=views, global_proj=views[:2])
    assert invariance == pytest.approx(theirs.item(), rel=1e-9)


def test_local_views_are_pulled_to_the_global_ones_and_do_not_pull(tiny_vit):
    module, given = learner(LeJEPA.example(), tiny_vit), batch(LeJEPA.example())
    module.eval()
    views = projections(module, given)
    centre = views[:2].mean(0)
    moved = module(given).parts["invariance"].item()
    assert moved == pytest.approx((views - centre).square().mean().item(), rel=1e-4)
    assert moved != pytest.approx((views - views.mean(0)).square().mean().item(), rel=1e-4)


def test_directions_are_drawn_anew_each_step_and_alike_on_every_worker(tiny_vit):
    objective = LeJEPA.example()
    module = learner(objective, tiny_vit)
    first, again, next_step = (module(batch(objective, step)).parts["sigreg"].item() for step in (0, 0, 1))
    assert first == again
    assert first != next_step


def test_views_may_differ_in_size(tiny_vit):
    objective = LeJEPA.example()
    module, given = learner(objective, tiny_vit), batch(objective)
    given.view_VBCHW[2] = given.view_VBCHW[2][:, :, :8, :8]
    losses = module(given)
    losses.total.backward()
    assert losses.total.isfinite()
    assert losses.features_BD.shape == (8, 16)


def test_the_statistic_stays_exact_under_autocast():
    views, direction = cloud(2, 20, 4).float(), cloud(4, 6, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        under = sketched(views, direction, RULE)
    assert torch.equal(under, sketched(views, direction, RULE))


def test_the_projector_has_three_layers_and_ends_without_a_norm(tiny_vit):
    projector = learner(LeJEPA(hidden=12, output=5), tiny_vit).projector
    inner = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert [type(part) for part in projector] == [*inner, *inner, nn.Linear]
    assert [part.out_features for part in projector if isinstance(part, nn.Linear)] == [12, 12, 5]
    assert projector[-1].bias.requires_grad


def test_one_point_has_the_trivial_loss_and_is_called_a_collapse(tiny_vit):
    objective = LeJEPA.example()
    module, given = learner(objective, tiny_vit), batch(objective)
    for parameter in module.projector[-1].parameters():
        nn.init.zeros_(parameter)
    losses = module(given)
    trivial = objective.trivial_loss(classes=0, labels_an_image=1, batch_images=8)
    assert losses.total.item() == pytest.approx(trivial, rel=1e-5)
    assert trivial == pytest.approx(0.05 * statistic([0.0] * 8), rel=0.01)
    row = {name: value.item() for name, value in losses.parts.items()}
    assert objective.collapse(row) == "embeddings are one point: their standard deviation is 0.000, and should be 1"
    assert objective.collapse({"embedding_std": 0.9}) is None
    assert objective.collapse({}) is None


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"points": 16}, "points: must be odd, so that one of them is 0; got 16"),
        ({"points": 1}, "points: must be greater than or equal to 3; got 1"),
        ({"global_views": 1, "local_views": 0}, "global_views: needs two views to agree, global or local; got 1"),
        ({"global_views": 0}, "global_views: must be greater than or equal to 1; got 0"),
        ({"weight": 0.0}, "weight: must be greater than 0; got 0.0"),
        ({"weight": 1.0}, "weight: must be less than 1; got 1.0"),
        ({"reach": 0.0}, "reach: must be greater than 0; got 0.0"),
    ],
)
def test_impossible_fields_are_refused(fields, line):
    with pytest.raises(SpecError) as caught:
        LeJEPA.parse(fields)
    assert str(caught.value) == line


def test_a_single_image_is_no_cloud():
    with pytest.raises(Refusal, match=r"^needs another image in a \(micro-\)batch to compare one with; got 1$"):
        LeJEPA().refuse(source_classes=None, images=9, batch_images=1)


def test_views_are_made_by_two_augmentations_and_each_costs_a_pass():
    assert LeJEPA().view_augmentations == (0, 0, 1, 1, 1, 1, 1, 1)
    assert LeJEPA(local_views=0).view_augmentations == (0, 0)
    assert LeJEPA(local_views=2).passes([1.0, 1.0, 0.25, 0.25]) == pytest.approx(7.5)
