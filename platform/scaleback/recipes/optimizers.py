"""Optimizers, all out of libraries; these are their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field

from scaleback.core.spec import Spec, variants

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class _Optimizer(Spec):
    lr: float = Field(gt=0)
    """Peak learning rate, absolute: no hidden scaling by the batch."""
    weight_decay: float = Field(ge=0)
    """Decay of matrices; biases, norms, positions and class tokens are not decayed."""

    def settings(self) -> dict[str, Any]:
        """Keywords of timm's ``create_optimizer_v2``."""
        raise NotImplementedError

    def build(self, module: nn.Module) -> Optimizer:
        """The optimizer over the parameters of ``module`` that are trained."""
        from scaleback.torchvision_operators import declare

        declare()
        from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]

        return create_optimizer_v2(module, lr=self.lr, weight_decay=self.weight_decay, **self.settings())


class AdamW(_Optimizer):
    """Loshchilov and Hutter, 2019; torch's fused kernel."""

    kind: Literal["adamw"] = "adamw"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)

    def settings(self) -> dict[str, Any]:
        return {"opt": "adamw", "betas": (self.beta1, self.beta2), "fused": True}


class SGD(_Optimizer):
    """Stochastic gradient descent with Nesterov momentum, as timm's ``sgd``; momentum 0 is plain descent."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)

    def settings(self) -> dict[str, Any]:
        # torch refuses Nesterov's update without momentum; timm's "momentum" is the same optimizer without it.
        return {"opt": "sgd" if self.momentum else "momentum", "momentum": self.momentum}


class Muon(_Optimizer):
    """Muon (Jordan, 2024) for hidden matrices, AdamW for the rest, as timm's ``muon``."""

    kind: Literal["muon"] = "muon"
    momentum: float = Field(0.95, ge=0, lt=1)

    def settings(self) -> dict[str, Any]:
        return {"opt": "muon", "momentum": self.momentum}


class LAMB(_Optimizer):
    """You et al., 2020."""

    kind: Literal["lamb"] = "lamb"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)

    def settings(self) -> dict[str, Any]:
        return {"opt": "lamb", "betas": (self.beta1, self.beta2)}


class LARS(_Optimizer):
    """You et al., 2017."""

    kind: Literal["lars"] = "lars"
    momentum: float = Field(0.9, ge=0, lt=1)

    def settings(self) -> dict[str, Any]:
        return {"opt": "lars", "momentum": self.momentum}


OPTIMIZERS: Mapping[str, type[_Optimizer]] = {
    "adamw": AdamW,
    "sgd": SGD,
    "muon": Muon,
    "lamb": LAMB,
    "lars": LARS,
}

if TYPE_CHECKING:
    AnyOptimizer: TypeAlias = _Optimizer
else:
    AnyOptimizer = variants(OPTIMIZERS)
