"""How runs are set: budgets, schedules, optimizers, augmentation, and the papers' presets."""

from scaleback.recipes.augmentation import Augmentation, RandAugment
from scaleback.recipes.presets import FINETUNE_RECIPES, PRETRAIN_RECIPES, FinetuneRecipe, PretrainRecipe
from scaleback.recipes.recipe import Recipe

__all__ = [
    "FINETUNE_RECIPES",
    "PRETRAIN_RECIPES",
    "Augmentation",
    "FinetuneRecipe",
    "PretrainRecipe",
    "RandAugment",
    "Recipe",
]
