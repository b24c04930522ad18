"""Stable Diffusion behind the interface of generators: its prompts, its guidance, and what stock diffusers does."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file

from scaleback.adapt.run import learn
from scaleback.cli import main
from scaleback.core.errors import DataError, SpecError
from scaleback.core.store import Store
from scaleback.sources.diffusing.lora import load_lora
from scaleback.sources.diffusing.opened import CAPTIONS, LORA
from scaleback.sources.diffusing.pictures import pixels, resized
from scaleback.sources.diffusing.sampling import sample
from scaleback.sources.diffusing.tiny import save_tiny, tiny_tokenizer, vision_config
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.folder import Folder
from scaleback.sources.generator import Subject
from scaleback.sources.generators import ADAPTATIONS
from scaleback.sources.named import Digits
from scaleback.sources.population import Population, load_images, missing_blocks, render_block
from scaleback.sources.real import decode_file
from scaleback.sources.stable_diffusion import NEGATIVE, StableDiffusion, _digest

NAMES = ("cat", "dog")
COLOUR = (16, 16, 3)
REAL_FAKE_CODE = {"guidance": "image", "strength": 0.75, "guidance_scale": 2.0, "lora_scale": 0.5, "steps": 30}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("stable")


@pytest.fixture(scope="module")
def spec(scratch):
    return StableDiffusion.example(scratch)


@pytest.fixture(scope="module")
def source(spec):
    adaptation = ADAPTATIONS["small"].replace({"schedule.warmup_images": 0, "schedule.budget_images": 64})
    return Diffusion(
        real=Digits(), real_images=20, generator=spec, adaptation=adaptation.replace({"mmd_weight": 5.0}), steps=4
    )


@pytest.fixture(scope="module")
def learnt(source, scratch):
    store = Store(scratch / "store")
    learn(source, 3, store)
    return store


def built(spec, *, drawn=True, **known):
    known = {"shape": COLOUR, "classes": 2, "class_names": NAMES, **known}
    return spec.model_copy(update={"class_names": None}).build(Subject(drawn=drawn, **known)).eval()


@pytest.fixture
def diffuser(spec):
    return built(spec, captions=("a red one", "", "a wide blue one"))


def images(count=3, shape=COLOUR):
    height, width, channels = shape
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise(diffuser, count=3):
    return torch.randn(count, *diffuser.latent_shape, generator=torch.Generator().manual_seed(1))


def stock(spec, kind="StableDiffusionImg2ImgPipeline"):
    import diffusers

    pipeline = getattr(diffusers, kind).from_pretrained(
        spec.checkpoint, local_files_only=True, safety_checker=None, requires_safety_checker=False, image_encoder=None
    )
    pipeline.scheduler = diffusers.UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# What it is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "real", "line"),
    [
        (0, 0, "photo of cat, a red one"),
        (1, 2, "photo of dog, a wide blue one"),
        (1, 1, "photo of dog"),
        (0, -1, "photo of cat"),
        (-1, 0, "photo of a red one"),
        (-1, -1, "photo"),
    ],
)
def test_a_prompt_says_what_is_known(spec, diffuser, label, real, line):
    learning = built(spec, drawn=False, captions=("a red one", "", "a wide blue one"))
    assert learning.prompt(label, real) == line
    assert diffuser.prompt(label, real) == f"{line}, best quality"


def test_tokens_are_those_of_the_stock_pipeline(spec, diffuser):
    label, real = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 0])
    prompts = [diffuser.prompt(int(one), int(index)) for one, index in zip(label, real, strict=True)]
    told, untold = stock(spec).encode_prompt(prompts, "cpu", 1, True, [NEGATIVE] * 3)
    for _ in range(2):  # read, then remembered
        torch.testing.assert_close(diffuser.told(label, real, None), told, rtol=0, atol=1e-5)
        torch.testing.assert_close(diffuser.untold(3), untold, rtol=0, atol=1e-5)
    assert not torch.allclose(told[0], told[1])


def test_each_image_has_its_own_look_in_the_last_token_and_nowhere_else(diffuser):
    label = torch.tensor([0, 1, 0])
    look = torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
    told, without = diffuser.told(label, torch.arange(3), look), diffuser.told(label, torch.arange(3), None)
    assert told.shape == (3, 77, 32)
    for row in range(3):
        for token in range(77):
            assert torch.equal(told[row, token], look[row] if token == 76 else without[row, token])
    assert not torch.equal(diffuser.told(label, torch.arange(3), 2 * look)[:, 76], look)


def test_few_prompts_are_remembered(spec, monkeypatch):
    monkeypatch.setattr("scaleback.sources.diffusing.stable.KEPT_PROMPTS", 2)
    diffuser = built(spec, captions=[f"number {index}" for index in range(6)])
    fresh = built(spec, captions=[f"number {index}" for index in range(6)])
    for first in (0, 2, 0, 4):
        real = torch.arange(first, first + 3) % 6
        torch.testing.assert_close(
            diffuser.told(real * 0, real, None), fresh.told(real * 0, real, None), rtol=0, atol=1e-5
        )
    assert len(diffuser._kept) == 2


# What goes in and comes out -----------------------------------------------------------------------------------------


def test_latents_are_the_mean_of_the_stock_vae_and_come_back(spec, diffuser):
    pipeline, given = stock(spec), images(9)
    with torch.no_grad():
        expected = pipeline.vae.config.scaling_factor * pipeline.vae.encode(given).latent_dist.mode()
        torch.testing.assert_close(diffuser.encode(given), expected, rtol=1e-4, atol=1e-5)
        back = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
        torch.testing.assert_close(diffuser.decode(expected), back, rtol=1e-4, atol=1e-5)


def test_real_images_of_another_shape_are_resized_and_gray_ones_are_gray_again(spec):
    gray = built(spec, shape=(8, 12, 1))
    given = images(2, (8, 12, 1))
    with torch.no_grad():
        latent = gray.encode(given)
        drawn, in_colour = gray.decode(latent), built(spec).decode(latent)
    assert latent.shape == (2, *gray.latent_shape)
    assert drawn.shape == given.shape
    luma = sum(share * in_colour[:, [channel]] for channel, share in enumerate((0.299, 0.587, 0.114)))
    expected = torch.nn.functional.interpolate(luma, (8, 12), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(drawn, expected)
    stripes = torch.tensor([-1.0, 1.0]).repeat(1, 3, 512, 256)  # finer than 16 px can show: gray if antialiased
    assert resized(stripes, (16, 16)).abs().max() < 0.05


def test_a_look_is_what_the_stock_encoder_sees_of_the_pixels(spec, diffuser):
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    encoder = CLIPVisionModelWithProjection.from_pretrained(spec.image_encoder, local_files_only=True)
    processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    given = images(2)
    pictures = [Image.fromarray(one) for one in pixels(given)]
    with torch.no_grad():
        expected = encoder(processor(pictures, return_tensors="pt").pixel_values).image_embeds
        found = diffuser.looks(given)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-2)  # the processor sees bytes
    assert (found[0] - found[1]).abs().max() > 0.1


@pytest.mark.parametrize("drawn", [True, False])
def test_precision_is_of_what_is_frozen(spec, drawn):
    half = spec.model_copy(update={"precision": "bf16"})
    diffuser = built(half, drawn=drawn)
    assert {diffuser.vae.dtype, diffuser.text_encoder.dtype, diffuser.image_encoder.dtype} == {torch.bfloat16}
    assert diffuser.unet.dtype == (torch.bfloat16 if drawn else torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=not drawn):
        latent = diffuser.encode(images())
        predicted = diffuser(latent, torch.tensor([5, 500, 900]), diffuser.untold(3))
    assert latent.dtype == predicted.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in diffuser.parameters())


def test_compiling_is_of_the_unet_and_no_part_of_identity(spec, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    other = spec.replace({"compile": True, "download": True})
    built(other)
    assert compiled == ["UNet2DConditionModel"]
    assert other.fingerprint == spec.fingerprint
    assert other != spec
    assert spec.replace({"precision": "bf16"}).fingerprint != spec.fingerprint


# Beside stock diffusers ---------------------------------------------------------------------------------------------


def lora_file(source, learnt, folder):
    stage = source.learnt(3)[-1]
    (folder / LORA).write_bytes(learnt.read(learnt.manifest(stage.address, stage), LORA))
    return folder


@pytest.mark.parametrize("strength", [0.75, 0.4])
def test_images_are_those_of_the_stock_img2img_pipeline_with_our_adapter(
    spec, source, learnt, tmp_path, monkeypatch, strength
):
    folder = lora_file(source, learnt, tmp_path)
    diffuser, pipeline, given = built(spec), stock(spec), images()
    load_lora(diffuser.unet, load_file(folder / LORA), REAL_FAKE_CODE["lora_scale"])
    pipeline.load_lora_weights(str(folder))
    with torch.no_grad():
        prior, drawn = diffuser.encode(given), noise(diffuser)
        told = diffuser.told(torch.tensor([0, 1, 0]), torch.arange(3), diffuser.looks(given))
        ours = sample(diffuser, drawn, told, steps=30, guidance_scale=2.0, prior_BCHW=prior, strength=strength)
    monkeypatch.setattr(
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor",
        lambda shape, **keywords: drawn,
    )
    theirs = pipeline(
        image=prior,
        prompt_embeds=told,
        negative_prompt_embeds=diffuser.untold(3),
        strength=strength,
        num_inference_steps=30,
        guidance_scale=2.0,
        cross_attention_kwargs={"scale": REAL_FAKE_CODE["lora_scale"]},
        output_type="pt",
    ).images
    torch.testing.assert_close((ours + 1) / 2, theirs, rtol=0, atol=1e-4)
    assert (ours - given).abs().mean() > 0.05


def test_the_adapter_file_is_read_by_the_stock_pipeline(spec, source, learnt, tmp_path):
    folder = lora_file(source, learnt, tmp_path)
    plain, ours, pipeline = built(spec), built(spec), stock(spec, "StableDiffusionPipeline")
    load_lora(ours.unet, load_file(folder / LORA), 1.0)
    pipeline.load_lora_weights(str(folder))
    given = noise(plain), torch.tensor([5, 500, 900]), plain.told(torch.tensor([0, 1, 0]), torch.arange(3), None)
    with torch.no_grad():
        found = ours(*given)
        torch.testing.assert_close(found, pipeline.unet(*given).sample, rtol=1e-4, atol=1e-5)
        assert (found - plain(*given)).abs().max() > 1e-3


# From captions to blocks --------------------------------------------------------------------------------------------


def test_an_image_is_the_same_alone_and_among_eight(source, learnt):
    reader = source.open_with(3, learnt)
    together = reader(np.arange(8)).image_BHWC
    alone = np.concatenate([reader(np.array([index])).image_BHWC for index in range(8)])
    assert abs(together.astype(int) - alone).max() <= source.tolerance
    assert abs(together[0].astype(int) - together[1]).max() > 10


def test_guidance_and_the_prior_change_what_is_drawn(source, learnt):
    changes = [{"guidance": "none"}, {"guidance": "image"}, {}, {"strength": 1.0}, {"guidance_scale": 7.5}]
    drawn = [
        source.replace({"adaptation": None, **change}).open_with(3, learnt)(np.arange(4)).image_BHWC.astype(int)
        for change in changes
    ]
    for first in range(len(drawn)):
        for second in range(first):
            assert abs(drawn[first] - drawn[second]).max() > source.tolerance, (changes[first], changes[second])


def test_copies_are_rendered_into_blocks(source, learnt):
    population = Population.of(source, 3)
    for block in missing_blocks(learnt, population, 30):
        render_block(learnt, population, block)
    found = load_images(learnt, population, 30)
    assert found.image_NHWC.shape == (30, 8, 8, 1)
    assert (found.label_N[20:] == found.label_N[:10]).all()
    assert (found.image_NHWC[20:] != found.image_NHWC[:10]).any()  # another copy, other noise


def test_all_real_images_are_learnt_from(source, tmp_path, monkeypatch):
    from scaleback.sources.diffusing.stable import StableDiffuser

    seen, told = [], StableDiffuser.told

    def watched(self, label_B, real_B, look_BF, hidden_B2=None):
        seen.extend(real_B.tolist())
        return told(self, label_B, real_B, look_BF, hidden_B2)

    monkeypatch.setattr(StableDiffuser, "told", watched)
    learn(source, 5, Store(tmp_path))
    assert sorted(np.bincount(seen, minlength=20)) == [3] * 16 + [4] * 4  # 64 passes over 20 images


@pytest.fixture(scope="module")
def captioner(scratch):
    """A random BLIP-2; what it says depends on what it sees."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

    folder, tokenizer = scratch / "captioner", tiny_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = OPTConfig(
        vocab_size=len(tokenizer) + 1,
        hidden_size=16,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        word_embed_proj_dim=16,
        max_position_embeddings=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = Blip2Config(
        vision_config={**small, "image_size": 16, "patch_size": 8},
        qformer_config={**small, "encoder_hidden_size": 16, "vocab_size": 8, "cross_attention_frequency": 1},
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_text_hidden_size=16,
        image_token_index=len(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Blip2ForConditionalGeneration(config)
        with torch.no_grad():
            model.query_tokens.normal_()
            for parameter in model.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_captioner_says_what_images_show_and_the_generator_is_told(source, captioner, tmp_path):
    asking = source.replace({"generator.captioner": str(captioner)})
    store = Store(tmp_path)
    learn(asking, 3, store)
    kinds = [type(stage).__name__ for stage in asking.learnt(3)]
    assert kinds == ["Captioned", "Adapted"]
    stage = asking.learnt(3)[0]
    said = json.loads(store.read(store.manifest(stage.address, stage), CAPTIONS))
    assert len(said) == 20
    assert len(set(said)) > 1
    reader = asking.open_with(3, store)
    label = int(reader(np.array([4])).label_B[0])
    words = ", ".join(part for part in (f"class {label}", said[4]) if part)
    assert reader._diffuser.prompt(label, 4) == f"photo of {words}, best quality"
    assert (reader(np.arange(4)).image_BHWC > 0).any()


@pytest.mark.parametrize("form", ["one file", "a file a class", "places"])
def test_captions_of_a_file_go_to_their_images_whatever_the_order(spec, tmp_path, form):
    real, path = Folder.example(tmp_path), tmp_path / "captions"
    files = {f"class_{number % 2}": [] for number in range(8)}
    for number in range(8):
        files[f"class_{number % 2}"].append(f"{number}.png")
    if form == "a file a class":
        path.mkdir()
        for one, own in files.items():
            (path / f"{one}.json").write_text(json.dumps({file: f"shows {file}" for file in own}))
    elif form == "one file":
        said = {f"{one}/{file}": f"shows {file}" for one, own in files.items() for file in own}
        path.write_text(json.dumps(said))
    else:
        of_place = {name[1]: name[0].split("/")[1] for name in real.image_names(7, real.available())}
        path.write_text(json.dumps({place: f"shows {file}" for place, file in of_place.items()}))
    told = spec.model_copy(update={"captions": str(path), "class_names": None})
    count, orders = real.available(), set()
    for seed in (0, 1):
        captions = told.written_captions(Population.of(real, seed), count)
        orders.add(tuple(captions))
        samples = real.open(seed)(np.arange(count))
        for caption, image_HWC, label in zip(captions, samples.image_BHWC, samples.label_B, strict=True):
            file = tmp_path / "folder" / f"class_{label}" / caption.removeprefix("shows ")
            assert (image_HWC == decode_file(file, 16, 3, "file")).all()
    assert len(orders) == 2


# What cannot be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"generator.image_encoder": None},
            "generator.image_encoder: must name a CLIP checkpoint, or guidance be none; got None",
        ),
        (
            {"generator.class_names": None},
            "generator.class_names: must name the 10 classes, which have numbers only; got None",
        ),
        ({"generator.class_names": ["cat"]}, "generator.class_names: must be as many as classes, 10; got ['cat']"),
        (
            {"generator.captions": "a.json", "generator.captioner": "b"},
            "generator.captioner: must be left out where captions are given; got 'b'",
        ),
        ({"generator.size_px": 20}, "generator.size_px: must be a multiple of 8; got 20"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(source, changes, line):
    with pytest.raises(SpecError) as caught:
        source.replace(changes)
    assert str(caught.value) == line


def test_guidance_needs_no_encoder_where_there_is_none(source):
    alone = source.replace({"guidance": "none"}).replace({"generator.image_encoder": None})
    assert alone.generator.image_encoder is None


@pytest.fixture(scope="module")
def wrong(scratch):
    """Checkpoints that are not what they should be, by name."""
    from transformers import CLIPVisionModelWithProjection

    save_tiny(scratch / "velocity", prediction_type="v_prediction")
    CLIPVisionModelWithProjection(vision_config(24)).save_pretrained(scratch / "narrow")
    (scratch / "other").mkdir()
    (scratch / "other" / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    (scratch / "list.json").write_text("[1]")
    (scratch / "few.json").write_text('{"3": "a three"}')
    return scratch


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        (
            "checkpoint",
            "no/such-model",
            "generator.checkpoint: no/such-model: is not on this machine; "
            "pass a folder that holds it, or download: true",
        ),
        (
            "checkpoint",
            "/no/such/folder",
            "generator.checkpoint: /no/such/folder: is not on this machine; "
            "pass a folder that holds it, or download: true",
        ),
        (
            "checkpoint",
            "{here}/velocity",
            "generator.checkpoint: {here}/velocity: must predict noise (prediction_type epsilon); got 'v_prediction'",
        ),
        (
            "image_encoder",
            "{here}/narrow",
            "generator.image_encoder: {here}/narrow: must have features as wide as the text's tokens, 32; got 24",
        ),
        (
            "image_encoder",
            "no/such-encoder",
            "generator.image_encoder: no/such-encoder: is not on this machine; "
            "pass a folder that holds it, or download: true",
        ),
    ],
)
def test_wrong_weights_are_one_line_before_anything_starts_and_when_they_are_opened(source, wrong, field, value, line):
    changed = source.replace({f"generator.{field}": value.format(here=wrong)})
    with pytest.raises(DataError) as early:
        changed.verify()
    assert str(early.value) == line.format(here=wrong)
    with pytest.raises(DataError) as late:
        built(changed.generator)
    assert str(late.value) == line.format(here=wrong)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"checkpoint": "{here}/other"},
            "generator.checkpoint: {here}/other: must be a pipeline of StableDiffusionPipeline or "
            "StableDiffusionImg2ImgPipeline; got 'StableDiffusionXLPipeline'",
        ),
        (
            {"captions": "{here}/none.json"},
            "generator.captions: {here}/none.json: is not there; pass a JSON file, or a folder of one a class",
        ),
        ({"captions": "{here}/list.json"}, 'generator.captions: {here}/list.json: must hold {{"image": "caption"}}'),
        (
            {"captioner": "no/such-captioner"},
            "generator.captioner: no/such-captioner: is not on this machine; "
            "pass a folder that holds it, or download: true",
        ),
    ],
)
def test_wrong_files_are_one_line_before_anything_starts(source, wrong, changes, line):
    changed = source.replace({f"generator.{name}": value.format(here=wrong) for name, value in changes.items()})
    with pytest.raises(DataError) as caught:
        changed.verify()
    assert str(caught.value) == line.format(here=wrong)


def test_without_a_network_a_download_is_one_line(source, monkeypatch):
    def offline(name, file):
        raise LocalEntryNotFoundError("no connection\nat all")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    changed = source.replace({"generator.checkpoint": "no/such-model", "generator.download": True})
    with pytest.raises(DataError) as caught:
        changed.verify()
    line = "generator.checkpoint: no/such-model: cannot be downloaded; pass a folder (no connection at all)"
    assert str(caught.value) == line


def test_the_command_line_says_so_and_ends_with_2(source, tmp_path, capsys):
    wanted = source.replace({"generator.checkpoint": "no/such-model"}).plain()
    store = tmp_path / "store"
    assert main(["plan", "--storage", str(store), "--set", f"source={json.dumps(wanted)}"]) == 2
    line = "source: generator.checkpoint: no/such-model: is not on this machine; pass a folder that holds it, or "
    assert capsys.readouterr().err == f"scaleback: {line}download: true\n"
    assert not store.exists()


def test_images_without_a_caption_are_named(spec, wrong):
    told = spec.model_copy(update={"captions": str(wrong / "few.json")})
    with pytest.raises(DataError, match=r"generator.captions: .*few.json: lacks (19|20) of 20 images, the first is '"):
        told.written_captions(Population.of(Digits(), 0), 20)


def test_classes_that_the_data_do_not_name_are_refused_when_it_is_opened(spec):
    with pytest.raises(DataError, match=r"class_names: must name the 2 classes; the data do not; got \[\]"):
        built(spec, class_names=())


def test_other_weights_in_the_same_folder_are_another_generator(source, tmp_path):
    save_tiny(tmp_path / "a")
    first = source.replace({"generator.checkpoint": str(tmp_path / "a")}).learnt(3)[-1].address
    save_tiny(tmp_path / "a", seed=1)
    _digest.cache_clear()
    assert source.replace({"generator.checkpoint": str(tmp_path / "a")}).learnt(3)[-1].address != first
