"""SimCLR: the loss by two nested loops and by lightly; the projector; what collapses."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from scaleback.core.errors import Refusal, SpecError
from scaleback.objectives.learners.simclr import nt_xent_logits
from scaleback.objectives.simclr import SimCLR
from scaleback.torchvision_operators import declare
from tests.contracts.test_objectives import batch, learner

declare()  # before lightly, which imports torchvision
from lightly.loss import NTXentLoss  # noqa: E402


def embeddings(images=7, width=5, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((2, images, width)))


def by_hand(first, second, temperature):
    """Equation 1 for every view, and the mean over both views of all images; slow on purpose."""
    view = [row / math.sqrt(sum(value**2 for value in row)) for row in [*first, *second]]
    count, losses = len(first), []
    for i, mine in enumerate(view):
        partner = (i + count) % (2 * count)
        terms = {k: math.exp(sum(mine * other) / temperature) for k, other in enumerate(view) if k != i}
        losses.append(-math.log(terms[partner] / sum(terms.values())))
    return sum(losses) / len(losses)


def nt_xent(first, second, temperature):
    return nn.functional.cross_entropy(*nt_xent_logits(first, second, temperature))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_the_paper_s_and_lightly_s(temperature):
    first, second = embeddings()
    found = nt_xent(first, second, temperature).item()
    assert found == pytest.approx(by_hand(first.numpy(), second.numpy(), temperature), rel=1e-9)
    assert found == pytest.approx(NTXentLoss(temperature)(first, second).item(), rel=1e-9)


def test_the_gradient_is_lightly_s():
    mine, theirs = embeddings().requires_grad_(), embeddings().requires_grad_()
    nt_xent(*mine, 0.3).backward()
    NTXentLoss(0.3)(*theirs).backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-9)


def test_length_of_an_embedding_does_not_matter_and_the_order_of_views_neither():
    first, second = embeddings()
    loss = nt_xent(first, second, 0.5)
    torch.testing.assert_close(nt_xent(3 * first, second / 7, 0.5), loss)
    torch.testing.assert_close(nt_xent(second, first, 0.5), loss)


def test_cosines_stay_exact_under_autocast():
    first, second = embeddings().float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(first, second, 0.1), nt_xent(first.float(), second.float(), 0.1))
        logits, _ = nt_xent_logits(first, second, 0.1)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, nt_xent_logits(first, second, 0.1)[0])


def test_the_learner_s_loss_is_that_of_its_projections(tiny_vit):
    module, given = learner(SimCLR(temperature=0.3, hidden=24, output=6), tiny_vit), batch(SimCLR())
    projected = module.projector(module.backbone(torch.cat(given.view_VBCHW))).detach().double().numpy()
    losses = module(given)
    assert losses.total.item() == pytest.approx(by_hand(projected[:8], projected[8:], 0.3), rel=1e-5)
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    cosine = unit @ unit.T - 9 * np.eye(16)
    right = np.mean([cosine[row].argmax() == (row + 8) % 16 for row in range(16)])
    assert losses.parts["accuracy"] == pytest.approx(right)
    assert losses.parts["positive_similarity"] == pytest.approx((unit[:8] * unit[8:]).sum(1).mean(), rel=1e-5)


def test_the_projector_is_the_released_one(tiny_vit):
    projector = learner(SimCLR(), tiny_vit).projector
    kinds = [type(part) for part in projector]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    shapes = {name: tuple(value.shape) for name, value in projector.named_parameters() if value.requires_grad}
    assert shapes == {
        "0.weight": (16, 16),
        "1.weight": (16,),
        "1.bias": (16,),
        "3.weight": (128, 16),
        "4.weight": (128,),
    }
    assert not projector[4].bias.any()
    assert projector[3].weight.abs().max() <= 1 / 4  # 1 / sqrt(16)


def test_one_point_has_the_trivial_loss_and_is_called_a_collapse(tiny_vit):
    objective = SimCLR(temperature=0.2)
    module, given = learner(objective, tiny_vit), batch(objective)
    for view in given.view_VBCHW:
        view.zero_()
    losses = module(given)
    trivial = objective.trivial_loss(classes=0, labels_an_image=1, batch_images=8)
    assert trivial == math.log(15)
    assert losses.total.item() == pytest.approx(trivial, rel=1e-5)
    row = {name: value.item() for name, value in losses.parts.items()}
    assert objective.collapse({"uniformity": -0.001}) == (
        "projections of different images are one point: their uniformity is -0.001"
    )
    assert objective.collapse(row) is not None
    assert objective.collapse({"uniformity": -2.0}) is None
    assert objective.collapse({}) is None  # between watched steps nothing is known


def test_a_single_image_and_impossible_fields_are_refused():
    with pytest.raises(Refusal) as caught:
        SimCLR().refuse(source_classes=None, images=9, batch_images=1)
    assert f"{caught.value.field}: {caught.value}" == (
        "kind: needs another image in a (micro-)batch to compare one with; got 1"
    )
    SimCLR().refuse(source_classes=None, images=9, batch_images=2)
    for field, value, rule in (
        ("temperature", 0.0, "must be greater than 0; got 0.0"),
        ("hidden", 0, "must be greater than or equal to 1; got 0"),
        ("output", 0, "must be greater than or equal to 1; got 0"),
    ):
        with pytest.raises(SpecError) as refused:
            SimCLR.parse({field: value})
        assert str(refused.value) == f"{field}: {rule}"


def test_both_views_are_made_alike_and_cost_two_passes():
    assert SimCLR().view_augmentations == (0, 0)
    assert SimCLR().passes([1.0, 1.0]) == 6
