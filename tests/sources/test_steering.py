"""Steering by a judge's entropy: the gradient by finite differences, what it does to images, sources that nest."""

import math

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler

from scaleback.adapt.run import learn
from scaleback.core.errors import SpecError
from scaleback.core.store import Store
from scaleback.sources.diffusing.judge import Judge
from scaleback.sources.diffusing.opened import load_judge
from scaleback.sources.diffusing.pictures import scaled
from scaleback.sources.diffusing.sampling import sample, steered
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.generator import Subject
from scaleback.sources.generators import GENERATORS, Embedded
from scaleback.sources.learnt import before
from scaleback.sources.mixture import Mixture
from scaleback.sources.named import Digits

SEED, IMAGES = 3, 16
RECIPE = {"preset": "small", "budget_images": 4_000}
SCALES = {"embedded": (0.3, 1.0), "stable-diffusion": (3.0, 30.0)}
"""Of random weights: beyond these the entropy of the embedded one's images falls again."""


def with_steering(source, scale):
    return source.replace({"steering": {"scale": scale, "recipe": RECIPE}})


@pytest.fixture(scope="module", params=GENERATORS)
def example(request, tmp_path_factory):
    """A source without steering, and a store with what it learns, its judge too."""
    folder = tmp_path_factory.mktemp(request.param)
    generator = GENERATORS[request.param].example(folder)
    source = Diffusion.example(folder).replace({"generator": generator.plain(), "real_images": 100})
    store = Store(folder / "store")
    learn(with_steering(source, 1.0), SEED, store)
    return source, store


def drawn(source, store, images=IMAGES):
    return source.open_with(SEED, store)(np.arange(images)).image_BHWC


# One step -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An untrained generator and judge in double precision, with weights that say something."""
    folder = tmp_path_factory.mktemp("tiny")
    source = with_steering(Diffusion.example(folder), 1.0)
    diffuser = Embedded.example(folder).build(Subject(shape=(8, 8, 1), classes=10)).double().eval()
    judge = Judge(source.judge(SEED))
    torch.nn.init.normal_(judge.head.weight, generator=torch.Generator().manual_seed(5))
    torch.nn.init.zeros_(judge.head.bias)
    with torch.no_grad():
        for parameter in diffuser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return diffuser, judge.double().eval().requires_grad_(False)


PIXELS = range(0, 64, 5)
"""Where derivatives are looked at."""


def latents(count=2):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()


def entropy_by_hand(judge, image):
    """Of the softmax of one image's answers, class by class."""
    answers = judge(image[None])[0].tolist()
    total = sum(math.exp(answer) for answer in answers)
    return -sum(math.exp(answer) / total * math.log(math.exp(answer) / total) for answer in answers)


@pytest.mark.parametrize("place", [1, 4])
def test_the_prediction_moves_by_the_gradient_of_the_entropy(tiny, place):
    diffuser, judge = tiny
    scheduler = UniPCMultistepScheduler.from_config(dict(diffuser.noise_schedule))
    scheduler.set_timesteps(6)
    step = scheduler.timesteps[place]
    told = diffuser.told(torch.tensor([1, 7]), torch.tensor([0, 1]), None).double()
    noisy, scale, nudge = latents(), 3.0, 1e-5

    def entropy(one, row):
        """The scheduler's own clean image, decoded, judged."""
        scheduler._init_step_index(step)
        clean = scheduler.convert_model_output(diffuser(one[None], step, told[row : row + 1]), sample=one[None])
        return entropy_by_hand(judge, diffuser.decode(clean)[0])

    kept = float(scheduler.alphas_cumprod[step].double())
    ratio = float(scheduler.sigmas[place])
    with torch.no_grad():
        found = steered(diffuser, judge, noisy, lambda latent: diffuser(latent, step, told), ratio, scale)
        predicted = diffuser(noisy, step, told)
        expected = torch.zeros_like(noisy)
        for row in range(len(noisy)):
            for pixel in PIXELS:
                off = torch.zeros(64).double()
                off[pixel] = nudge
                above, below = (entropy(noisy[row] + sign * off.view(1, 8, 8), row) for sign in (1, -1))
                expected[row].view(-1)[pixel] = (above - below) / (2 * nudge)
    moved, expected = ((predicted - found) / (scale * math.sqrt(1 - kept))).flatten(1)[:, PIXELS], expected.flatten(1)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(moved, expected[:, PIXELS], rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_a_strength_of_nothing_changes_nothing(tiny):
    diffuser, judge = tiny
    told = diffuser.told(torch.tensor([1, 7]), torch.tensor([0, 1]), None).double()
    for given in ({"guidance_scale": 2.0}, {"guidance_scale": 1.0, "prior_BCHW": 0.5 * latents(), "strength": 0.5}):
        alone, with_judge, moved = (
            sample(diffuser, latents(), told, steps=6, judge=one, steering_scale=scale, **given)
            for one, scale in ((None, 0.0), (judge, 0.0), (judge, 5.0))
        )
        torch.testing.assert_close(with_judge, alone, rtol=0, atol=1e-12)
        assert (moved - alone).abs().max() > 1e-3


# Whole images -------------------------------------------------------------------------------------------------------


def test_the_judge_is_less_sure_of_images_the_stronger_it_steers(example):
    source, store = example
    judge = load_judge(store, with_steering(source, 1.0).judge(SEED))
    found = []
    for scale in (None, *SCALES[source.generator.kind]):
        image = drawn(source if scale is None else with_steering(source, scale), store)
        answer = judge(scaled(image)).double().softmax(1).numpy()
        found.append(-np.where(answer > 0, answer * np.log(answer.clip(1e-300)), 0).sum(1).mean())
    assert found[0] + 0.02 < found[1] < found[2] - 0.02, found


def test_an_image_is_steered_by_its_own_entropy_whatever_its_batch(example):
    source, store = example
    source = with_steering(source, 30.0)
    reader = source.open_with(SEED, store)
    together = reader(np.arange(8)).image_BHWC
    alone = np.concatenate([reader(np.array([index])).image_BHWC for index in range(8)])
    assert (alone == together).all()
    assert abs(drawn(source.replace({"steering": None}), store, 8) - together.astype(int)).max() > source.tolerance


def test_a_judge_learns_the_real_images(example):
    source, store = example
    source = with_steering(source, 1.0)
    stage = source.judge(SEED)
    manifest = store.manifest(stage.address, stage)
    assert manifest.record["images_seen"] == stage.budget_images == 4_000
    real = source.real.open(SEED)(np.arange(100))
    answer = load_judge(store, stage)(scaled(real.image_BHWC)).argmax(1).numpy()
    assert (answer == real.label_B).mean() > 0.8


# What it depends on -------------------------------------------------------------------------------------------------


def test_a_judge_waits_for_no_generator_and_is_one_for_all_strengths(tmp_path):
    source = with_steering(Diffusion.example(tmp_path), 2.0)
    trained, adapted, judged = source.learnt(SEED)
    assert (before(trained), before(judged)) == ([], [])
    assert before(adapted) == [trained]
    assert with_steering(source, 4.0).judge(SEED) == judged
    assert source.judge(SEED + 1).address != judged.address
    assert source.replace({"steering": None}).learnt(SEED) == [trained, adapted]
    assert source.replace({"real_images": 30}).judge(SEED).address != judged.address
    assert "steering" not in Diffusion.example(tmp_path).canonical()


def test_a_second_round_learns_from_what_the_first_drew(tmp_path):
    recipe = {**RECIPE, "budget_images": 200, "warmup_images": 0}
    first = Diffusion.example(tmp_path).replace({"steering": {"scale": 5.0, "recipe": recipe}})
    both = Mixture(first=Digits(), second=first, share=0.5, labels="shared")
    second = first.replace({"real": both.plain(), "real_images": 40})
    store = Store(tmp_path / "store")
    learn(second, SEED, store)
    judges = [stage for stage in second.learnt(SEED) if stage.address.startswith("judge/")]
    assert judges == [first.judge(SEED), second.judge(SEED)]
    assert {stage.address for stage in before(judges[1])} == {stage.address for stage in first.learnt(SEED)}
    weights = [load_judge(store, judge).head.weight for judge in judges]
    assert not torch.equal(*weights)
    samples = second.open_with(SEED, store)(np.arange(8))
    assert samples.image_BHWC.shape == (8, 8, 8, 1)
    assert samples.label_B.tolist() == both.open_with(SEED, store)(np.arange(8)).label_B.tolist()
    assert (samples.image_BHWC != drawn(second.replace({"steering": None}), store, 8)).any()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"steering": {"scale": 0.0}}, "steering.scale: must be greater than 0; got 0.0"),
        ({"steering": {"scale": 1.0, "model": "resnet"}}, "steering.model: unknown timm model"),
        (
            {"steering": {"scale": 1.0, "model": "vit_tiny_patch16_224"}},
            "steering.model: image_px must divide into patches of 16 px; got 8",
        ),
        ({"real.class_limit": 1}, "steering: needs real images of at least two classes to be unsure of; got 1"),
        (
            {"real": {"kind": "spectrum", "size_px": 16}, "generator.source": {"kind": "spectrum", "size_px": 16}},
            "steering: needs real images whose classes are known; got 'spectrum'",
        ),
        (
            {"real": {"kind": "multi-instance-fractals"}},
            "real: must give images of one class each; got 'multi-instance-fractals'",
        ),
        ({"steering.recipe.budget_flops": 1e9}, "steering.recipe.budget_flops: must be left out"),
        ({"steering.recipe.budget_epochs": 0.1}, "steering.recipe.budget_epochs: must cover a batch of 50"),
        ({"steering.recipe.views": []}, "steering.recipe.views: must hold at least one augmentation"),
        ({"steering.recipe.views": [{"size_px": 4}]}, "steering.recipe.views: size_px must be left out; got 4"),
        ({"steering.recipe.views": [{}, {}]}, "steering.recipe.views: must be one augmentation; got 2"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, changes, line):
    source = with_steering(Diffusion.example(tmp_path), 1.0)
    with pytest.raises(SpecError) as caught:
        source.replace(changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(line)
