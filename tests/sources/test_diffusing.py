"""Parts of the embedded generator: noise, guidance, low-rank weights, sampling."""

import numpy as np
import pytest
import scipy.stats
import torch

from scaleback.core import seeds
from scaleback.core.errors import RenderError, SpecError
from scaleback.sources.diffusing.guide import Guide
from scaleback.sources.diffusing.lora import add_lora, load_lora, lora_file
from scaleback.sources.diffusing.model import normal, signal_and_noise
from scaleback.sources.diffusing.pictures import pixels, scaled
from scaleback.sources.diffusing.sampling import sample
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.generator import Subject
from scaleback.sources.generators import Embedded
from scaleback.sources.named import Digits

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return Embedded.example(tmp_path_factory.mktemp("generator"))


def subject(spec):
    return Subject(shape=spec.source.shape, classes=10)


@pytest.fixture
def diffuser(spec):
    made = spec.build(subject(spec)).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # the last convolution of a UNet may begin at zero
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made


def noise(diffuser, count=3):
    return torch.randn(count, *diffuser.latent_shape, generator=torch.Generator().manual_seed(0))


def told(diffuser, count=3):
    label = torch.arange(count)
    return diffuser.told(label, label, None)


def test_uniform_numbers_become_normal_ones():
    uniform = torch.tensor([0.0, 0.025, 0.5, 0.975, 1 - 2**-24])
    expected = scipy.stats.norm.ppf(uniform.double().clamp(min=2**-25).numpy())
    np.testing.assert_allclose(normal(uniform).numpy(), expected, atol=1e-5, rtol=1e-4)
    drawn = normal(torch.from_numpy(seeds.uniform(5, np.arange(1_000), 100)).float())
    assert scipy.stats.kstest(drawn.numpy().ravel()[:20_000], "norm").pvalue > 1e-3


def test_signal_and_noise_are_those_of_the_schedule():
    schedule = {"num_train_timesteps": 10, "beta_start": 0.01, "beta_end": 0.2, "beta_schedule": "linear"}
    signal, spread = signal_and_noise(schedule)
    kept = 1.0
    for step in range(10):
        kept *= 1 - (0.01 + step * (0.2 - 0.01) / 9)
        assert signal[step].item() == pytest.approx(kept**0.5, rel=1e-5)
        assert spread[step].item() == pytest.approx((1 - kept) ** 0.5, rel=1e-5)


def test_guidance_is_the_mean_look_of_images_of_the_class():
    look, label = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), np.arange(12) % 3
    real, counter = np.array([0, 4, 8, 0]), np.array([0, 4, 8, 12])
    found = Guide(look, label, kind="class-mean", images=4, seed=7)(real, counter)
    for row, (one, key) in enumerate(zip(real, counter, strict=True)):
        members = [n for n in range(12) if label[n] == label[one]]
        draws = seeds.uniform(seeds.key("guidance", 7), [key], 4)[0]
        expected = sum(look[members[int(draw * len(members))]] for draw in draws) / 4
        torch.testing.assert_close(found[row], expected)
    assert not torch.equal(found[0], found[3])  # another copy, other images
    torch.testing.assert_close(Guide(look, label, kind="image", images=4, seed=7)(real, counter), look[real])
    assert Guide(look, label, kind="none", images=4, seed=7)(real, counter) is None


def test_a_fresh_adapter_changes_nothing_and_only_it_is_trained(diffuser):
    before = diffuser(noise(diffuser), torch.tensor([5, 500, 900]), told(diffuser))
    trained = add_lora(diffuser.unet, 2, torch.Generator().manual_seed(0))
    after = diffuser(noise(diffuser), torch.tensor([5, 500, 900]), told(diffuser))
    torch.testing.assert_close(after, before)
    in_unet = [parameter for parameter in diffuser.unet.parameters() if parameter.requires_grad]
    assert {id(one) for one in trained} == {id(one) for one in in_unet}
    for name, parameter in diffuser.unet.named_parameters():
        if parameter.requires_grad:
            assert name.split(".lora_")[0].endswith(TARGETS)
            assert parameter.shape[0 if ".lora_A." in name else 1] == 2


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_an_adapter_that_is_loaded_adds_scale_times_its_product(spec, scale):
    mine, plain = (
        spec.build(subject(spec)).eval(),
        spec.build(subject(spec)).eval(),
    )
    add_lora(mine.unet, 3, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in mine.unet.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(generator=generator)
    file = lora_file(dict(mine.unet.named_parameters()))
    assert all(name.startswith("unet.") and name.endswith((".lora_A.weight", ".lora_B.weight")) for name in file)
    with torch.no_grad():  # by hand: the products added to the weights
        for name, weight in plain.unet.named_parameters():
            stem = f"unet.{name.removesuffix('.weight')}"
            if f"{stem}.lora_A.weight" in file:
                weight += scale * file[f"{stem}.lora_B.weight"] @ file[f"{stem}.lora_A.weight"]
    loaded = spec.build(subject(spec)).eval()
    load_lora(loaded.unet, file, scale)
    given = noise(mine), torch.tensor([5, 500, 900]), told(mine)
    torch.testing.assert_close(loaded(*given), plain(*given), rtol=1e-4, atol=1e-5)


def test_a_prior_that_goes_no_way_comes_back_as_it_was(diffuser):
    image = scaled(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8))
    prior = diffuser.encode(image)
    found = sample(
        diffuser, noise(diffuser), told(diffuser), steps=5, guidance_scale=1.0, prior_BCHW=prior, strength=0.0
    )
    torch.testing.assert_close(found, image)


def test_without_guidance_the_untold_pass_is_left_out_and_with_it_the_difference_counts(diffuser):
    calls = []
    diffuser.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    given = {"steps": 3, "prior_BCHW": None}
    alone = sample(diffuser, noise(diffuser), told(diffuser), guidance_scale=1.0, **given)
    assert calls == [3, 3, 3]
    # Where nothing is told, guidance has nothing to add.
    same = sample(diffuser, noise(diffuser), diffuser.untold(3), guidance_scale=4.0, **given)
    torch.testing.assert_close(
        same, sample(diffuser, noise(diffuser), diffuser.untold(3), guidance_scale=1.0, **given), rtol=1e-4, atol=1e-4
    )
    assert calls[3:6] == [6, 6, 6]
    guided = sample(diffuser, noise(diffuser), told(diffuser) + 1, guidance_scale=4.0, **given)
    assert not torch.allclose(guided, alone)


@pytest.mark.parametrize(("strength", "passes"), [(0.75, 6), (0.5, 4), (1.0, 8)])
def test_a_prior_shortens_the_way(diffuser, strength, passes):
    steps = []
    diffuser.register_forward_pre_hook(lambda module, given: steps.append(int(given[1])))
    prior = torch.zeros(3, *diffuser.latent_shape)
    sample(diffuser, noise(diffuser), told(diffuser), steps=8, guidance_scale=1.0, prior_BCHW=prior, strength=strength)
    assert len(steps) == passes
    assert steps == sorted(steps, reverse=True)


def test_pixels_go_to_the_unit_interval_and_back():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert (scaled(image).min(), scaled(image).max()) == (-1, 1)
    assert (pixels(scaled(image)) == image).all()
    assert (pixels(1.5 * scaled(image)) == np.clip(np.rint(1.5 * image - 63.75), 0, 255)).all()


def test_copies_of_real_images_come_one_round_after_the_other(tmp_path):
    source = Diffusion.example(tmp_path)
    assert source.available() is None
    assert source.classes(5) == 10
    kinds = [type(stage).__name__ for stage in source.learnt(4)]
    assert kinds == ["Trained", "Adapted"]
    assert len({stage.address for seed in (1, 2) for stage in source.learnt(seed)}) == 3  # one generator for all seeds
    with pytest.raises(RenderError, match="open it with a store"):
        source.open(0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"real_images": 4_000}, "real_images: must be at most the 797 there are; got 4000"),
        ({"generator.images": 4_000}, "generator.images: must be at most the 797 there are; got 4000"),
        ({"generator.widths": [12, 16]}, "generator.widths: must be multiples of 8; got (12, 16)"),
        ({"generator.square_px": 3}, "generator.square_px: must divide half of the sides of (8, 8) px; got 3"),
        ({"guidance_scale": 0.5}, "guidance_scale: must be greater than or equal to 1; got 0.5"),
        ({"adaptation": "tiny"}, "adaptation: unknown adaptation, known are real-fake"),
        ({"real": {"kind": "point-cloud", "size_px": 16}}, "generator.source: must give images of shape (16, 16, 1)"),
        ({"generator.schedule.batch_images": 128}, "generator.schedule.budget_images: must cover a batch of 128"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, changes, line):
    with pytest.raises(SpecError) as caught:
        Diffusion.example(tmp_path).replace(changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(line)


def test_a_generator_of_known_classes_is_for_these_classes(tmp_path):
    generator = Embedded.example(tmp_path).replace({"labels": True})
    few = Digits(class_limit=3)
    with pytest.raises(SpecError, match=r"labels: must be false: the source has 10 classes, not 3; got True"):
        Diffusion.example(tmp_path).replace({"generator": generator.plain(), "real": few.plain()})
