"""Training with differential privacy: the baseline of what synthetic images are said to give."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pydantic import Field

from scaleback.backbones import Backbone
from scaleback.core.errors import Refusal, refusal
from scaleback.core.spec import Spec
from scaleback.evaluations.base import Target
from scaleback.recipes import Recipe

if TYPE_CHECKING:
    from scaleback.objectives.learners.base import Learner

LEAST_BATCH_IMAGES = 32
"""A batch that is drawn by chance, so many images expected, is empty with a probability below exp(-32) = 1e-14."""
ORDERS = (*(1 + tenth / 10 for tenth in range(1, 100)), *range(11, 65), 128, 256, 512, 1_024)
"""Rényi orders among which the accountant takes the best; any set gives a true bound, a larger one a tighter."""


class Private(Spec):
    """DP-SGD (Abadi et al., CCS 2016): what one image can do to the weights is bounded, and hidden under noise.

    The guarantee is of one image more or less among those that this evaluation trains on, whose number is taken to be
    known. It is of the trained weights: not of the curve, which is watched without noise, nor of what the backbone was
    pre-trained on, nor of settings that were chosen by looking at results. The noise is drawn from the run's seed, so
    it hides nothing from who knows that seed, and little from who sees two trainings with it.
    """

    noise: float = Field(gt=0)
    """Standard deviation of the noise on a sum of gradients, as a multiple of ``clip``."""
    clip: float = Field(gt=0)
    """Largest norm of one image's gradient; a longer one is scaled down to it."""
    delta: float = Field(gt=0, lt=1)
    """Probability with which the guarantee may fail, at which ``epsilon`` is told."""

    def refuse_recipe(self, recipe: Recipe) -> None:
        """Raise Refusal if it is set in a way that has no private counterpart."""
        if recipe.accumulate > 1:
            raise Refusal("recipe.accumulate", refusal("must be 1 where training is private", recipe.accumulate))
        if recipe.precision != "fp32":
            raise Refusal("recipe.precision", refusal("must be fp32 where training is private", recipe.precision))
        if recipe.compile:
            raise Refusal("recipe.compile", refusal("must be off where training is private", recipe.compile))
        if recipe.batch_images < LEAST_BATCH_IMAGES:
            rule = f"must be at least {LEAST_BATCH_IMAGES} where training is private, so that no batch comes out empty"
            raise Refusal("recipe.batch_images", refusal(rule, recipe.batch_images))

    def refuse_target(self, target: Target, recipe: Recipe) -> None:
        """Raise Refusal if nothing would be guaranteed of the target's images."""
        if target.synthetic is not None:
            rule = "needs real images alone: its guarantee would be of drawn images, not of those they were drawn after"
            raise Refusal("private", refusal(rule, target.synthetic.source.short))
        if self.delta * target.images >= 1:
            rule = f"must be below 1 / {target.images}: publishing an image chosen by lot would be as private"
            raise Refusal("private.delta", refusal(rule, self.delta))
        if recipe.batch_images > target.images:
            rule = f"must be at most the {target.images} images of the target where training is private"
            raise Refusal("recipe.batch_images", refusal(rule, recipe.batch_images))

    def refuse_backbone(self, backbone: Backbone) -> None:
        """Raise Refusal if the gradient of an image depends on the other images of its batch."""
        if backbone.has_batch_norms:
            rule = "needs a backbone without batch norms, such as a ViT, a ConvNeXt or resnet50_gn"
            raise Refusal("private", refusal(rule, backbone.model))

    def build(self, learner: Learner, *, batch_images: int) -> Learner:
        """The learner whose gradients are private."""
        from scaleback.objectives.learners.private import PrivateLearner

        return PrivateLearner(learner, noise=self.noise, clip=self.clip, batch_images=batch_images)

    def epsilon(self, *, rate: float, steps: int) -> float:
        """What is guaranteed at ``delta`` after so many steps, by Opacus' accountant of Rényi privacy.

        Args:
            rate: chance of an image to be in a batch.
            steps: that were made.
        """
        from opacus.accountants.analysis import rdp

        spent = rdp.compute_rdp(q=rate, noise_multiplier=self.noise, steps=steps, orders=ORDERS)
        with warnings.catch_warnings():
            # It says where the first or last order is the best one. The bound is true all the same.
            warnings.filterwarnings("ignore", message="Optimal order is")
            epsilon, _ = rdp.get_privacy_spent(orders=ORDERS, rdp=spent, delta=self.delta)
        return float(epsilon)
