"""SDMP on DINO: its three losses by loops over images, and what a mixed image may not touch."""

import math

import pytest
import torch

from scaleback.objectives.dino import DINO
from scaleback.objectives.learners.dino import features_of_views
from scaleback.objectives.learners.mixing import draw_mix, mixed
from scaleback.objectives.sdmp_dino import SDMPDINO
from tests.objectives.test_dino import IMAGES, PROTOTYPES, SPEC, batch, learner, loss_by_hand, softmax

PAIRINGS = ("local", "global")


def spec(**fields):
    return SDMPDINO(**{**SPEC.model_dump(exclude={"kind"}), **fields})


def partner_by_hand(i, pairing):
    return IMAGES - 1 - i if pairing == "global" else i + 1 - 2 * (i % 2)


def entropies(target, logits):
    """Cross-entropy of one image."""
    return -sum(p * math.log(q) for p, q in zip(target, softmax([value / 0.1 for value in logits]), strict=True))


def losses_by_hand(student_2BK, teacher_2BK, mixed_teacher_2BK, share, pairing):
    """The loss against clean views and that against mixed ones; teacher's as distributions, the student's as logits."""
    source, shared = [], []
    for view in (0, 1):
        for i in range(IMAGES):
            j = partner_by_hand(i, pairing)
            mine, theirs = share[i], share[j]
            common = min(mine, 1 - theirs) + min(1 - mine, theirs)
            clean, blend = teacher_2BK[1 - view], mixed_teacher_2BK[1 - view]
            target = [mine * p + (1 - mine) * q for p, q in zip(clean[i], clean[j], strict=True)]
            source.append(entropies(target, student_2BK[view][i]))
            target = [(p + common * q) / (1 + common) for p, q in zip(blend[i], blend[j], strict=True)]
            shared.append(entropies(target, student_2BK[view][i]))
    return sum(source) / len(source), sum(shared) / len(shared)


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("mixer", ["mixup", "cutmix", "resizemix"])
def test_the_losses_are_those_of_loops_over_images(mixer, pairing):
    one = spec(mixers=(mixer,), pairing=pairing, mix_weight=0.5)
    module, given = learner(one), batch(step=3)
    module.centre_K.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(3))
    # A student unlike its teacher, or exchanged views would not show.
    with torch.no_grad():
        module.head.prototype_KN.copy_(module.head.prototype_KN.flip(0))
    mix = draw_mix(one, given)
    blended = [mixed(view, mix, number) for number, view in enumerate(given.view_VBCHW[:2])]

    def logits(networks, views):
        with torch.no_grad():
            return [networks.head(features_of_views(networks.backbone, [view])[0]).double().tolist() for view in views]

    centre = module.centre_K.tolist()

    def taught(views):
        return [
            [softmax([(g - c) / 0.04 for g, c in zip(row, centre, strict=True)]) for row in rows]
            for rows in logits(module.teacher, views)
        ]

    dino = loss_by_hand(
        logits(module.teacher, given.view_VBCHW[:2]), logits(module, given.view_VBCHW), centre, 0.04, 0.1
    )
    source, shared = losses_by_hand(
        logits(module, blended), taught(given.view_VBCHW[:2]), taught(blended), mix.share_B.tolist(), pairing
    )
    losses = module(given)
    assert losses.parts["dino_loss"].item() == pytest.approx(dino, rel=1e-5)
    assert losses.parts["source_loss"].item() == pytest.approx(source, rel=1e-5)
    assert losses.parts["mix_loss"].item() == pytest.approx(shared, rel=1e-5)
    assert losses.total.item() == pytest.approx(dino + 0.5 * (source + shared), rel=1e-5)
    # The student does see the mixed pixels: with clean ones in their place the losses are others.
    unmixed, _ = losses_by_hand(
        logits(module, given.view_VBCHW[:2]),
        taught(given.view_VBCHW[:2]),
        taught(blended),
        mix.share_B.tolist(),
        pairing,
    )
    assert abs(unmixed - source) > 1e-4


def test_mixed_images_do_not_move_the_centre():
    module, plain = learner(spec()), learner()
    for each in (module, plain):
        each(batch())
        each.after_step(0.5)
    torch.testing.assert_close(module.centre_K, plain.centre_K)
    torch.testing.assert_close(module.told_apart, plain.told_apart)


def test_local_crops_stay_clean_and_mixed_ones_are_global():
    module, given = learner(spec()), batch()
    seen = []
    module.backbone.patch_embed.proj.register_forward_hook(lambda layer, args, result: seen.append(args[0].detach()))
    module(given)
    assert [tuple(image.shape[::2]) for image in seen] == [(2 * IMAGES, 16), (2 * IMAGES, 8), (2 * IMAGES, 16)]
    assert torch.equal(seen[0], torch.cat(given.view_VBCHW[:2]))
    assert torch.equal(seen[1], torch.cat(given.view_VBCHW[2:]))
    assert not torch.equal(seen[2], seen[0])


@pytest.mark.parametrize("parts", [2, 3])
def test_partners_on_one_worker_make_slices_exact(parts):
    module, given = learner(spec(pairing="local")), batch()
    whole = module(given).total
    length = IMAGES // parts
    cuts = [slice(start, start + length) for start in range(0, IMAGES, length)]
    if length % module.slice_multiple:
        return
    each = []
    for part in cuts:
        fields = {
            "view_VBCHW": [view[part] for view in given.view_VBCHW],
            "counter_B": given.counter_B[part],
        }
        each.append(
            module(type(given)(**{n: fields.get(n, getattr(given, n)) for n in given.__dataclass_fields__})).total
        )
    torch.testing.assert_close(torch.stack(each).mean(), whole)


def test_what_mixing_costs_and_what_it_starts_from():
    clean, one = DINO(), SDMPDINO()
    areas = [1.0, 1.0, *[0.2] * 8]
    assert one.passes(areas) == pytest.approx(clean.passes(areas) + 2 * 4)  # two mixed crops, seen by both networks
    given = {"classes": 0, "labels_an_image": 1, "batch_images": 8}
    assert one.trivial_loss(**given) == pytest.approx(3 * clean.trivial_loss(**given))
    assert spec(mix_weight=0.5).trivial_loss(**given) == pytest.approx(2 * math.log(PROTOTYPES))


def test_two_images_at_least_stay_together():
    assert SDMPDINO().slice_multiple == 2
    assert learner(spec()).slice_multiple == 2


def test_a_collapse_of_dino_is_one_here():
    row = {"teacher_entropy": 0.0, "teacher_kl": 0.0, "told_apart": 0.0}
    assert SDMPDINO().collapse(row) == DINO().collapse(row) is not None
