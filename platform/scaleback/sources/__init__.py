"""Populations of images: made by formula, or read. A new one costs a file and a line of ``SOURCES``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from scaleback.core.spec import variants
from scaleback.sources.base import Source
from scaleback.sources.dead_leaves import DeadLeaves
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.exfractaldb import OFDB3D, ExFractalDB
from scaleback.sources.folder import Folder
from scaleback.sources.fractal_scenes import MultiClassFractals, MultiInstanceFractals
from scaleback.sources.fractaldb import OFDB, FractalDB
from scaleback.sources.generators import Embedded
from scaleback.sources.members import Members
from scaleback.sources.mixture import Mixture
from scaleback.sources.moire import Moire
from scaleback.sources.named import Digits, FashionMNIST, HuggingFace, Torchvision
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.one_photo import OnePhoto
from scaleback.sources.perlin import Perlin
from scaleback.sources.point_cloud import PointCloud
from scaleback.sources.rcdb import RCDB
from scaleback.sources.real import RealSource
from scaleback.sources.retrieved import Retrieved
from scaleback.sources.spectrum import Spectrum
from scaleback.sources.tables import Arrays, Parquet
from scaleback.sources.visual_atom import VisualAtom

REAL_SOURCES: Mapping[str, type[RealSource]] = {
    "digits": Digits,
    "fashion_mnist": FashionMNIST,
    "folder": Folder,
    "parquet": Parquet,
    "arrays": Arrays,
    "torchvision": Torchvision,
    "huggingface": HuggingFace,
    "members": Members,
}

SOURCES: Mapping[str, type[Source]] = {
    "1p-frac": OnePFrac,
    "fractaldb": FractalDB,
    "ofdb": OFDB,
    "exfractaldb": ExFractalDB,
    "ofdb-3d": OFDB3D,
    "rcdb": RCDB,
    "visual-atom": VisualAtom,
    "multi-class-fractals": MultiClassFractals,
    "multi-instance-fractals": MultiInstanceFractals,
    "one-photo": OnePhoto,
    "point-cloud": PointCloud,
    "spectrum": Spectrum,
    "perlin": Perlin,
    "dead-leaves": DeadLeaves,
    "moire": Moire,
    "mixture": Mixture,
    "diffusion": Diffusion,
    "retrieved": Retrieved,
    **REAL_SOURCES,
}

if TYPE_CHECKING:
    AnySource: TypeAlias = Source
    AnyRealSource: TypeAlias = RealSource
else:
    AnySource = variants(SOURCES)
    AnyRealSource = variants(REAL_SOURCES)
    for holder in (Members, Embedded, Diffusion, Mixture, Retrieved):
        holder.model_rebuild(_types_namespace={"AnySource": AnySource, "AnyRealSource": AnyRealSource})

__all__ = ["REAL_SOURCES", "SOURCES", "AnyRealSource", "AnySource", "RealSource", "Source"]
