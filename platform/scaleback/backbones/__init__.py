"""Architectures, out of timm: what a model is, apart from how it is trained."""

from scaleback.backbones.backbone import Backbone, Cost

__all__ = ["Backbone", "Cost"]
