"""SDMP on MoCo v3 against its formulas by hand, and two workers against one."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist

from scaleback.core.errors import RunError, SpecError
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.objectives.learners.batch_norm import over_workers
from scaleback.objectives.learners.mixing import draw_mix
from scaleback.objectives.learners.sdmp_moco import two_answers
from scaleback.objectives.sdmp_moco import SDMPMoCoV3
from tests.contracts.test_objectives import IMAGES, batch
from tests.objectives.test_mixing import MIXERS, mixed_by_hand, partner_by_hand
from tests.objectives.test_moco import built, info_nce_by_hand, learner, log_chance_by_hand, pictures
from tests.pair import WORKERS

SPEC = SDMPMoCoV3(hidden=24, output=12, projector_layers=2)
LOSSES = (("soft", True, 1.0), ("log-mixture", False, 0.5), ("soft", False, 0.3), ("log-mixture", True, 1.0))
VARIANTS = {
    f"{pairing}, {mixer}, {mix_loss}, {'both ways' if symmetric else 'one way'}": {
        "pairing": pairing,
        "mixers": [mixer],
        "mix_loss": mix_loss,
        "symmetric": symmetric,
        "mix_weight": weight,
    }
    for (pairing, mixer, _), (mix_loss, symmetric, weight) in zip(
        itertools.product(("local", "global"), MIXERS, range(2)), LOSSES * 3, strict=True
    )
}
"""Every way to mix, of either pairing, with two of the losses."""


def loss_by_hand(module, spec, given):
    """Clean, source and mix loss of SDMP, image by image; the draws alone are the learner's."""
    mix = draw_mix(spec, given)
    partner = [partner_by_hand(i, spec.pairing) for i in range(IMAGES)]
    views = given.view_VBCHW
    mixed = [
        torch.stack([mixed_by_hand(view[i], view[partner[i]], mix, i, v) for i in range(IMAGES)])
        for v, view in enumerate(views)
    ]
    share = mix.share_B.double().tolist()
    ways = [(0, 1), (1, 0)]
    if not spec.symmetric:
        ways = [ways[1 if given.generator("direction").random() < 0.5 else 0]]
    clean = source = mixture = 0.0
    for this, other in ways:
        query, mixed_query = (module.query(image)[1].tolist() for image in (views[this], mixed[other]))
        clean += info_nce_by_hand(query, module.key(views[other]).tolist(), spec.temperature)
        key, mixed_key = module.key(views[this]).tolist(), module.key(mixed[this]).tolist()
        for i in range(IMAGES):
            j = partner[i]
            common = min(share[i], 1 - share[j]) + min(1 - share[i], share[j])
            to_source = log_chance_by_hand(mixed_query[i], key, spec.temperature)
            to_mixed = log_chance_by_hand(mixed_query[i], mixed_key, spec.temperature)
            for log_chance, first, second, which in (
                (to_source, share[i], 1 - share[i], "source"),
                (to_mixed, 1 / (1 + common), common / (1 + common), "mix"),
            ):
                if spec.mix_loss == "soft":
                    one = -first * log_chance[i] - second * log_chance[j]
                else:
                    one = -math.log(first * math.exp(log_chance[i]) + second * math.exp(log_chance[j]))
                one *= 2 * spec.temperature / IMAGES
                source, mixture = (source + one, mixture) if which == "source" else (source, mixture + one)
    return clean, source, mixture


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_that_of_the_formulas(variant, tiny_vit):
    spec = SPEC.replace(VARIANTS[variant])
    module, given = learner(spec, tiny_vit), pictures(spec)
    clean, source, mixture = loss_by_hand(module, spec, given)
    losses = module(given)
    # Shares are drawn in single precision.
    assert losses.total.item() == pytest.approx(clean + spec.mix_weight * (source + mixture), rel=1e-6)
    for name, expected in (("clean_loss", clean), ("source_loss", source), ("mix_loss", mixture)):
        assert losses.parts[name].item() == pytest.approx(expected, rel=1e-6), name


def test_unmixed_images_with_mixed_targets_have_another_loss(tiny_vit):
    # What the released code's last version trains on.
    spec = SPEC.replace({"mixers": ["mixup"]})
    module, given = learner(spec, tiny_vit), pictures(spec)
    share = draw_mix(spec, given).share_B
    key, query = (find(given.view_VBCHW[v]) for v, find in ((0, module.key), (1, lambda image: module.query(image)[1])))
    log_chance = torch.tensor([log_chance_by_hand(one, key.tolist(), spec.temperature) for one in query.tolist()])
    partner = torch.tensor([partner_by_hand(i, spec.pairing) for i in range(IMAGES)])
    own = torch.arange(IMAGES)
    unmixed = -2 * spec.temperature * (share * log_chance[own, own] + (1 - share) * log_chance[own, partner]).mean()
    coin = spec.replace({"symmetric": False})
    steps = [step for step in range(20) if batch(coin, step).generator("direction").random() >= 0.5]
    module._mixing = coin
    found = module(dataclasses.replace(given, step=steps[0])).parts["source_loss"]
    assert abs(found - unmixed) > 0.01


def test_a_soft_label_is_not_the_logarithm_of_a_mixture():
    first, second = torch.tensor([0.6]).log(), torch.tensor([0.1]).log()
    weight = torch.tensor([0.75])
    soft = two_answers(first, second, weight, "soft").item()
    assert soft == pytest.approx(-0.75 * math.log(0.6) - 0.25 * math.log(0.1))
    mixture = two_answers(first, second, weight, "log-mixture").item()
    assert mixture == pytest.approx(-math.log(0.75 * 0.6 + 0.25 * 0.1))
    assert SDMPMoCoV3().mix_loss == "soft"


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_one_answer_of_no_weight_gives_a_finite_gradient(weight):
    value = torch.tensor([[0.6], [0.1]]).log().requires_grad_()
    loss = two_answers(value[0], value[1], torch.tensor([weight]), "log-mixture")
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(0.6 if weight else 0.1))
    assert value.grad.isfinite().all()


def test_one_answer_for_all_images_is_at_the_trivial_loss(tiny_vit, monkeypatch):
    constant = torch.ones(IMAGES, 12, dtype=torch.float64)
    for mix_loss, symmetric, weight in itertools.product(("soft", "log-mixture"), (True, False), (1.0, 0.5)):
        spec = SPEC.replace({"mix_loss": mix_loss, "symmetric": symmetric, "mix_weight": weight})
        module = learner(spec, tiny_vit)
        monkeypatch.setattr(module, "query", lambda image: (image.flatten(1), constant))
        monkeypatch.setattr(module, "key", lambda image: constant)
        losses = module(pictures(spec))
        trivial = spec.trivial_loss(classes=0, labels_an_image=1, batch_images=IMAGES)
        assert losses.total.item() == pytest.approx(trivial, rel=1e-6)
        row = {name: value.item() for name, value in losses.parts.items()}
        assert "on a point or a line" in spec.collapse(row)


def test_one_way_is_a_coin_a_batch_and_its_features_are_of_the_view_that_searches(tiny_vit):
    spec = SPEC.replace({"symmetric": False})
    ways = [batch(spec, step).generator("direction").random() < 0.5 for step in range(400)]
    assert np.mean(ways) == pytest.approx(0.5, abs=0.1)
    module = built(spec, tiny_vit)
    searching = set()
    for step in range(8):
        given = batch(spec, step)
        features = module(given).features_BD
        found = [torch.equal(features, module.backbone(view).detach()) for view in given.view_VBCHW]
        assert sum(found) == 1
        searching.add(found.index(True))
    assert searching == {0, 1}


def test_passes_are_those_that_are_made(tiny_vit):
    for symmetric, passes in ((True, 16.0), (False, 9.0)):
        spec = SPEC.replace({"symmetric": symmetric})
        module = built(spec, tiny_vit)
        counted = {"backward": 0, "all": 0}

        def count(part, given, result, counted=counted):
            counted["all"] += 1
            counted["backward"] += result.requires_grad

        for encoder in (module.backbone, module.teacher["backbone"]):
            encoder.register_forward_hook(count)
        module(batch(spec))
        assert counted["all"] + 2 * counted["backward"] == passes == spec.passes([1.0, 1.0])


def test_presets_are_the_paper_s_and_the_code_s():
    paper, code = OBJECTIVE_PRESETS["sdmp-moco-v3"], OBJECTIVE_PRESETS["sdmp-moco-v3-code"]
    assert (paper.mixers, paper.mix_weight, paper.mix_loss, paper.symmetric) == (MIXERS, 1.0, "soft", True)
    assert (code.mixers, code.mix_weight, code.mix_loss, code.symmetric) == (("resizemix",), 0.5, "soft", False)
    assert code.pairing == "global"
    for spec in (paper, code):
        assert (spec.temperature, spec.momentum, spec.hidden, spec.output, spec.alpha) == (0.2, 0.99, 4_096, 256, 1.0)
        assert spec.slice_multiple == 2


def test_views_of_two_sizes_cannot_be_mixed(tiny_vit):
    given = batch(SPEC)
    given.view_VBCHW[1] = given.view_VBCHW[1][:, :, :8, :8]
    with pytest.raises(RunError, match="mixed views must be of one size"):
        built(SPEC, tiny_vit)(given)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("mix_loss", "hard", "mix_loss: unknown value, known are log-mixture, soft; got 'hard'"),
        ("mixers", ["cutout"], "mixers.cutout: unknown value, known are cutmix, mixup, resizemix; got 'cutout'"),
        ("pairing", "remote", "pairing: unknown value, known are global, local; got 'remote'"),
    ],
)
def test_impossible_fields_are_refused(field, value, line):
    with pytest.raises(SpecError) as caught:
        SDMPMoCoV3.parse({field: value})
    assert str(caught.value) == line


# Two workers --------------------------------------------------------------------------------------------------------


def loss_and_gradients(spec, backbone, images=slice(None)):
    module, given = learner(spec, backbone), pictures(spec)
    given = dataclasses.replace(
        given,
        view_VBCHW=[view[images] for view in given.view_VBCHW],
        label_B=given.label_B[images],
        index_B=given.index_B[images],
        counter_B=given.counter_B[images],
    )
    if dist.is_initialized():
        over_workers(module)
    total = module(given).total
    total.backward()
    found = {name: value.grad for name, value in module.named_parameters() if value.requires_grad}
    return {"loss": total.detach(), **found}


def member(worker, folder, backbone):
    half = IMAGES // WORKERS
    for number, fields in enumerate(VARIANTS.values()):
        found = loss_and_gradients(SPEC.replace(fields), backbone, slice(worker * half, (worker + 1) * half))
        for value in found.values():
            dist.all_reduce(value)
            value /= WORKERS
        if worker == 0:
            torch.save(found, folder / f"{number}.pt")


@pytest.fixture(scope="module")
def left(tmp_path_factory, tiny_vit, pair):
    folder = tmp_path_factory.mktemp("pair")
    pair(member, folder, tiny_vit)
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_workers_compute_what_one_computes(variant, left, tiny_vit):
    alone = loss_and_gradients(SPEC.replace(VARIANTS[variant]), tiny_vit)
    theirs = torch.load(left / f"{list(VARIANTS).index(variant)}.pt", weights_only=True)
    assert alone.keys() == theirs.keys()
    largest = max(float(value.abs().max()) for value in alone.values())
    for name, value in alone.items():
        assert (value - theirs[name]).abs().max() <= 1e-5 * max(1.0, largest), name
