"""The denoising loss and the discrepancy of its mean: by loops, over workers, and what is trained."""

import warnings

import numpy as np
import pytest
import torch

from scaleback.adapt.learner import denoising_loss, snr_weights
from scaleback.adapt.run import run_learning
from scaleback.core import seeds
from scaleback.core.store import Store
from scaleback.objectives.learners.base import Batch
from scaleback.pretrain.world import World
from scaleback.sources.diffusing.opened import LORA, PARTS, WEIGHTS
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.generators import GENERATORS
from tests.pair import WORKERS

IMAGES = 8


def errors(count=IMAGES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, 3, 3, generator=generator).double(), torch.rand(count, generator=generator).double()


def test_the_loss_is_that_of_loops():
    error, weight = errors()
    mean_square = sum(
        weight[b].item() * np.mean([value**2 for value in error[b].flatten().tolist()]) for b in range(IMAGES)
    )
    weighted = [[weight[b].item() * value for value in error[b].flatten().tolist()] for b in range(IMAGES)]
    sums = [sum(column) for column in zip(*weighted, strict=True)]
    for form, expected in (
        ("mean", 0.192 * np.mean([(value / IMAGES) ** 2 for value in sums])),
        ("sum", 0.003 * np.mean([value**2 for value in sums])),
    ):
        total, parts = denoising_loss(error, weight, mmd_weight=0.192 if form == "mean" else 0.003, mmd_form=form)
        assert parts["denoising"].item() == pytest.approx(mean_square / IMAGES, rel=1e-12)
        assert total.item() == pytest.approx(mean_square / IMAGES + expected, rel=1e-12)


def test_with_eight_images_the_released_sum_is_as_strong_as_the_mean():
    error, weight = errors()
    mean, summed = (
        denoising_loss(error, weight, mmd_weight=strength, mmd_form=form)[0]
        for strength, form in ((0.192, "mean"), (0.003, "sum"))
    )
    assert mean.item() == pytest.approx(summed.item(), rel=1e-12)


@pytest.mark.parametrize("form", ["mean", "sum"])
def test_opposite_errors_have_no_discrepancy(form):
    error, _ = errors(1)
    total, parts = denoising_loss(torch.cat([error, -error]), torch.ones(2).double(), mmd_weight=1.0, mmd_form=form)
    assert parts["discrepancy"].item() == 0
    assert total.item() == parts["denoising"].item() > 0


def test_twice_the_batch_of_the_same_images_is_as_strong_in_mean_form_only():
    error, weight = errors()
    for form, factor in (("mean", 1), ("sum", 4)):
        once, twice = (
            denoising_loss(error.repeat(n, 1, 1, 1), weight.repeat(n), mmd_weight=1.0, mmd_form=form)[1]["discrepancy"]
            for n in (1, 2)
        )
        assert twice.item() == pytest.approx(factor * once.item())


def test_steps_of_little_noise_count_less():
    signal = torch.tensor([0.999, 0.9, 0.5, 0.1], dtype=torch.float64)
    found = snr_weights(signal, (1 - signal**2).sqrt(), 5.0)
    for one, value in zip(found.tolist(), signal.tolist(), strict=True):
        ratio = value**2 / (1 - value**2)
        assert one == pytest.approx(min(ratio, 5) / ratio)
    assert (snr_weights(signal, (1 - signal**2).sqrt(), None) == 1).all()


# Two workers --------------------------------------------------------------------------------------------------------


def learner(store, source):
    """An adapting learner whose low-rank weights are not at their start."""
    from scaleback.adapt.run import _training
    from scaleback.sources.population import load_images

    stage = source.learnt(3)[-1]
    training = _training(stage, load_images(store, stage.population, stage.images), store, torch.device("cpu"))
    with torch.no_grad():
        for parameter in training.learner.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return training.learner


def batch(images=slice(None)):
    index = np.arange(IMAGES)
    view = torch.randn(IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return Batch(
        view_VBCHW=[view[images]],
        label_B=torch.from_numpy(index % 10)[images],
        index_B=torch.from_numpy(index)[images],
        counter_B=seeds.counter(0 * index, index)[images],
        seed=5,
        step=0,
        progress=0.0,
    )


def gradients(module):
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


def member(rank, folder, source):
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
    mine = learner(Store(folder / "store"), source)
    model = World.joined(torch.device("cpu")).wrap(mine)
    half = IMAGES // WORKERS
    losses = model(batch(slice(rank * half, (rank + 1) * half)))
    losses.total.backward()
    torch.save({"loss": losses.total.detach(), **gradients(mine)}, folder / f"{rank}.pt")


@pytest.fixture(scope="module", params=GENERATORS)
def learnt(request, tmp_path_factory):
    """A source, and the folder of a store with what it learnt."""
    from scaleback.adapt.run import learn

    folder = tmp_path_factory.mktemp("learnt")
    generator = GENERATORS[request.param].example(folder)
    source = Diffusion.example(folder).replace({"adaptation.mmd_weight": 5.0, "generator": generator.plain()})
    learn(source, 3, Store(folder / "store"))
    return source, folder


def test_two_workers_have_the_loss_and_the_gradients_of_one(learnt, pair):
    source, folder = learnt
    pair(member, folder, source)
    parts = [torch.load(folder / f"{rank}.pt") for rank in range(WORKERS)]
    alone = learner(Store(folder / "store"), source)
    losses = alone(batch())
    losses.total.backward()
    expected = gradients(alone)
    assert losses.parts["discrepancy"] > 1e-4
    torch.testing.assert_close(sum(one["loss"] for one in parts) / WORKERS, losses.total.detach(), rtol=1e-5, atol=1e-6)
    assert expected.keys() == parts[0].keys() - {"loss"}
    assert any(value.abs().max() > 1e-4 for value in expected.values())
    for name, value in expected.items():
        for one in parts:
            torch.testing.assert_close(one[name], value, rtol=1e-4, atol=1e-5)


# What is trained ----------------------------------------------------------------------------------------------------


def test_low_rank_weights_and_classes_are_all_that_is_trained_and_kept(learnt):
    source, folder = learnt
    module = learner(Store(folder / "store"), source)
    module(batch()).total.backward()
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    assert trained == set(module.state_dict()) == set(gradients(module))
    assert all(".lora_" in name or name == "diffuser.classes" for name in trained)
    given = {name: torch.full_like(value, 0.25) for name, value in module.state_dict().items()}
    module.load_state_dict(given)
    assert all((value == 0.25).all() for name, value in module.named_parameters() if name in trained)
    assert not any((value == 0.25).all() for name, value in module.named_parameters() if name not in trained)


def test_what_is_published_is_what_opens(learnt):
    source, folder = learnt
    store = Store(folder / "store")
    *before, adapted = (store.manifest(stage.address, stage) for stage in source.learnt(3))
    assert len(before) == source.generator.trains
    for one in before:
        assert WEIGHTS in one.files
        assert one.record["images_seen"] == 64
    assert {LORA, PARTS} <= adapted.files.keys()
    assert adapted.record["images_seen"] == 64
    assert adapted.record["watched"]["discrepancy"] > 0


def test_a_run_that_is_cut_ends_with_the_same_bytes(learnt, tmp_path):
    source, folder = learnt
    store, stage = Store(folder / "store"), source.learnt(3)[-1]
    whole = store.manifest(stage.address, stage).files
    again = Store(tmp_path)
    for name in store.files(""):
        if not name.startswith(stage.address):
            again.put(name, store.get(name))

    def cut(row):
        if row["images_seen"] >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_learning(stage, again, World(), checkpoint_every_s=0.0, report=cut)
    assert again.manifest(stage.address, stage) is None
    manifest = run_learning(stage, again, World(), checkpoint_every_s=0.0)
    assert {name: entry["sha256"] for name, entry in manifest.files.items()} == {
        name: entry["sha256"] for name, entry in whole.items()
    }
