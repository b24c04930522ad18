"""The classifier whose doubt steers what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from scaleback.backbones import width_of
from scaleback.sources.diffusing.pictures import resized

if TYPE_CHECKING:
    from scaleback.sources.learnt import Judged

# Shapes: B images, C channels, H rows, W columns, K classes.


class Judge(nn.Module):
    """Backbone and head; images are normalised as they were in its training."""

    def __init__(self, spec: Judged) -> None:
        super().__init__()
        self.backbone = spec.backbone.build(0)
        self.head = nn.utils.skip_init(nn.Linear, width_of(self.backbone), spec.classes)
        self._side, self._view = spec.backbone.image_px, spec.recipe.views[0]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, K) answers on images in [-1, 1]."""
        unit_BCHW = (resized(image_BCHW, (self._side, self._side)) + 1) / 2
        answer_BK: Tensor = self.head(self.backbone((unit_BCHW - self._view.mean) / self._view.std))
        return answer_BK

    def entropy(self, image_BCHW: Tensor) -> Tensor:
        """(B,) entropy of the softmax of its answers, in nats."""
        log_BK = F.log_softmax(self(image_BCHW), dim=1)
        return -(log_BK.exp() * log_BK).sum(1)
