"""Stable Diffusion's classes at a thousandth of their size, with random weights: every path runs in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from scaleback.torchvision_operators import declare

WIDTH = 32
"""Of a token, and of the features of an image."""
LETTERS = tuple(chr(code) for code in range(33, 127))
START, END = "<|startoftext|>", "<|endoftext|>"
LOUDER = 4.0
"""Factor of the weights by which the UNet hears what it is told; with fresh ones it hardly does."""
SCHEDULE = {
    "num_train_timesteps": 1_000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
}


def save_tiny(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> None:
    """Write a pipeline into a folder, and under ``seen_by`` an encoder of images whose features are as wide as a token.

    Args:
        folder: where to.
        prediction_type: what its schedule says that it predicts.
        seed: of the weights.
    """
    declare()  # before diffusers, which imports torchvision
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            unet=UNet2DConditionModel(
                sample_size=8,
                layers_per_block=1,
                block_out_channels=(16, 32),
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=WIDTH,
                attention_head_dim=2,
                norm_num_groups=8,
            ),
            vae=AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=4,
                norm_num_groups=4,
                sample_size=16,
            ),
            text_encoder=CLIPTextModel(_text_config()),
            tokenizer=tiny_tokenizer(),
            scheduler=DDPMScheduler(**SCHEDULE, prediction_type=prediction_type),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        with torch.no_grad():
            for name, parameter in pipeline.unet.named_parameters():
                if ".attn2." in name and name.endswith("weight"):
                    parameter.mul_(LOUDER)
        pipeline.save_pretrained(folder)
        CLIPVisionModelWithProjection(vision_config()).save_pretrained(folder / "seen_by")


def tiny_tokenizer() -> Any:
    """One token a letter."""
    from transformers import CLIPTokenizer

    known = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), START, END]
    vocabulary = {token: number for number, token in enumerate(known)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def vision_config(width: int = WIDTH) -> Any:
    """Of an encoder with features so wide."""
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )


def _text_config() -> Any:
    from transformers import CLIPTextConfig

    tokens = 2 * len(LETTERS) + 2
    return CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - 1,
    )
