"""What images show, in words of BLIP-2 (Li et al., 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from scaleback.core.errors import DataError
from scaleback.sources.diffusing.checkpoints import dtype_of, loaded
from scaleback.sources.diffusing.pictures import for_clip, scaled
from scaleback.torchvision_operators import declare

if TYPE_CHECKING:
    from scaleback.sources.learnt import Captioned

# Shapes: N images, B images at once, H rows, W columns, C channels.

TOGETHER = 16
"""Images at once."""
MOST_TOKENS = 30
"""Of a caption: with a class before it, well within the 77 of a prompt."""


@torch.no_grad()
def captions(stage: Captioned, image_NHWC: NDArray[np.uint8], device: torch.device) -> list[str]:
    """One line of each image, by greedy decoding.

    Raises:
        DataError: the captioner is not there, or is none.
    """
    declare()  # before transformers, which imports torchvision
    from transformers import AutoTokenizer, Blip2ForConditionalGeneration

    given: dict[str, Any] = {"download": stage.download}
    model = loaded(
        Blip2ForConditionalGeneration, "captioner", stage.captioner, dtype=dtype_of(stage.precision), **given
    )
    tokenizer = loaded(AutoTokenizer, "captioner", stage.captioner, **given)
    if model.config.image_token_id is None:
        raise DataError(f"generator.captioner: {stage.captioner}: its config must say an image_token_index")
    model.to(device).eval()
    side, found = model.config.vision_config.image_size, []
    for start in range(0, len(image_NHWC), TOGETHER):
        seen_BCHW = for_clip(scaled(image_NHWC[start : start + TOGETHER]).to(device), side)
        said = model.generate(seen_BCHW.to(model.dtype), max_new_tokens=MOST_TOKENS, do_sample=False, num_beams=1)
        found += [" ".join(text.split()) for text in tokenizer.batch_decode(said, skip_special_tokens=True)]
    return found
