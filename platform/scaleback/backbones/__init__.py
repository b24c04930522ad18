"""Architectures, out of timm: what a model is, apart from how it is trained."""

from scaleback.backbones.backbone import Backbone, Cost, width_of

__all__ = ["Backbone", "Cost", "width_of"]
