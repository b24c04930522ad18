"""Drawing what a classifier is unsure of: the judge, and how strongly it steers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from scaleback.backbones import Backbone
from scaleback.core.errors import Refusal, SpecError, refusal
from scaleback.core.spec import Spec
from scaleback.recipes import FINETUNE_RECIPES, FinetuneRecipe

if TYPE_CHECKING:
    from scaleback.sources.base import Source


class Steering(Spec):
    """Moves each step of drawing towards images on which a judge's answer has a higher entropy.

    Deliberate Practice (arXiv 2502.15588): with the predicted clean image x0 of a noisy latent x, the predicted noise e
    becomes e - ``scale`` sqrt(1 - alpha_bar) dH(x0)/dx, where H is the entropy of the judge's softmax in nats, and the
    derivative goes through decoder and UNet. The judge is a classifier of the real images that are drawn after.
    """

    scale: float = Field(gt=0)
    model: str = "test_resnet"
    """The judge's architecture, a name in timm. It looks at images of the size and channels of the real ones."""
    recipe: FinetuneRecipe = FINETUNE_RECIPES["small"]
    """How the judge is trained."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        views = self.recipe.views
        if len(views) != 1:
            raise Refusal("recipe.views", refusal("must be one augmentation", len(views)))
        if views[0].size_px is not None:
            raise Refusal("recipe.views", refusal("size_px must be left out", views[0].size_px))
        if self.recipe.budget_by == "flops":
            raise Refusal("recipe.budget_flops", "must be left out; say budget_images or budget_epochs")
        return self

    def backbone(self, real: Source) -> Backbone:
        """The judge's, for images of a source.

        Raises:
            Refusal: it cannot look at them.
        """
        height, _, channels = real.shape
        try:
            return Backbone.parse({"model": self.model, "image_px": height, "channels": channels})
        except SpecError as error:
            field, _, rule = str(error).partition(": ")
            raise Refusal("model", rule if field == "model" else f"{field} {rule}") from None

    def refuse(self, real: Source, images: int) -> None:
        """Raise Refusal if no judge can learn from the first so many images of a source."""
        classes = real.classes(images)
        if classes is None:
            raise Refusal("", refusal("needs real images whose classes are known", real.short))
        if classes < 2:
            raise Refusal("", refusal("needs real images of at least two classes to be unsure of", classes))
        self.backbone(real)
        self.recipe.sized(images=images, flops_an_image=1)
