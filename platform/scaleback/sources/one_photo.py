"""One photograph, warped L times, each warp its own class: 1p-frac's claim without a fractal.

Nakamura et al., "Scaling Backwards: Minimal Synthetic Pre-training?" (ECCV 2024), section 4 on single real images. The
generator was not released; what the paper leaves open is decided here, and said at each field.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core import seeds
from scaleback.core.errors import Refusal, refusal, unknown
from scaleback.core.plain import beside, is_file
from scaleback.sources.base import Samples, Source
from scaleback.sources.looks import LEAST_EDGE_PX, looked_at
from scaleback.sources.real import check_header, decode_file

_SKIMAGE = ("skimage", "data")
BUNDLED: Mapping[str, tuple[str, ...]] = {
    "china": ("sklearn", "datasets", "images", "china.jpg"),
    "flower": ("sklearn", "datasets", "images", "flower.jpg"),
    "astronaut": (*_SKIMAGE, "astronaut.png"),
    "brick": (*_SKIMAGE, "brick.png"),
    "camera": (*_SKIMAGE, "camera.png"),
    "chelsea": (*_SKIMAGE, "chelsea.png"),
    "clock": (*_SKIMAGE, "clock_motion.png"),
    "coffee": (*_SKIMAGE, "coffee.png"),
    "coins": (*_SKIMAGE, "coins.png"),
    "grass": (*_SKIMAGE, "grass.png"),
    "gravel": (*_SKIMAGE, "gravel.png"),
    "hubble": (*_SKIMAGE, "hubble_deep_field.jpg"),
    "moon": (*_SKIMAGE, "moon.png"),
    "retina": (*_SKIMAGE, "retina.jpg"),
    "rocket": (*_SKIMAGE, "rocket.jpg"),
}
"""Photographs that lie in an installed package, and where: scikit-learn's, which is required, and those of
scikit-image (extra ``photos``) that come in its wheel and need no download."""
QUADRATIC = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Powers of x and y in a polynomial warp."""
ELASTIC_SHARE = 0.06
"""Standard deviation, as a share of the side, of the Gaussian that smooths an elastic field."""


class OnePhoto(Source):
    """Image i is the photograph under warp i, and its class is i. Warps of one seed are the same draws at every delta.

    A warp moves the place at which each point of the image looks into the photograph, in units in which the half side
    is 1; what lies outside is black.
    """

    kind: Literal["one-photo"] = "one-photo"
    photo: str = "china"
    """``china`` or ``flower``, which come with scikit-learn, ``astronaut``, ``coffee`` and others, which come with
    scikit-image, or the path of an image; its middle square is used."""
    look: Literal["rgb", "gray", "canny", "binary"] = "canny"
    """``binary`` is gray above its median; ``canny`` the edges, on gray smoothed by ``blur_px``. Looks come before
    warps."""
    blur_px: float = Field(1.5, gt=0)
    warp: Literal["affine", "perspective", "polynomial", "elastic"] = "affine"
    """``affine`` adds U(-delta/2, delta/2) to each of six parameters; ``perspective`` to the coordinates of the four
    corners; ``polynomial`` to the twelve coefficients of two quadratics; ``elastic`` moves every point by smoothed
    noise of standard deviation delta/4."""
    delta: float = Field(0.5, gt=0, le=2)
    size_px: int = Field(256, ge=LEAST_EDGE_PX)

    @model_validator(mode="after")
    def _there(self) -> Self:
        if self.photo in BUNDLED:
            package, *inside = BUNDLED[self.photo]
            if importlib.util.find_spec(package) is None:
                rule = "comes with scikit-image, which is not installed; pip install 'scaleback[photos]'"
                raise Refusal("photo", refusal(rule, self.photo))
            if not is_file(self.file):
                rule = f"must be in the installed {package} as {'/'.join(inside)}, and this version does not bring it"
                raise Refusal("photo", refusal(rule, self.photo))
        elif not is_file(self.photo):
            known = [*BUNDLED, *beside(self.photo)]
            raise Refusal("photo", unknown("photograph or file", self.photo, known))
        return self

    @property
    def file(self) -> Path:
        """Where the photograph lies."""
        if self.photo not in BUNDLED:
            return Path(self.photo)
        name, *inside = BUNDLED[self.photo]
        package = importlib.util.find_spec(name)
        assert package is not None, "refused at construction"
        assert package.origin is not None, "a package has a file"
        return Path(package.origin).parent.joinpath(*inside)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, 3 if self.look == "rgb" else 1

    def classes(self, images: int) -> int:
        return images

    def available(self) -> None:
        return None

    def origin(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def verify(self) -> None:
        check_header(self.file, self.photo)

    def open(self, seed: int) -> OnePhotoReader:
        return OnePhotoReader(self, seed)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(size_px=32, look="gray")


class OnePhotoReader:
    """Warps the photograph."""

    def __init__(self, spec: OnePhoto, seed: int) -> None:
        self._spec, self._seed = spec, seed
        channels = 3 if spec.look == "rgb" else 1
        photo_HWC = decode_file(spec.file, spec.size_px, channels, spec.photo)
        self._photo_HWC = looked_at(photo_HWC, spec.look, spec.blur_px).astype(np.float64)

    @property
    def record(self) -> dict[str, Any]:
        """Share of the photograph that is not black after its look."""
        return {"lit_share": float((self._photo_HWC > 0).any(axis=2).mean())}

    def __call__(self, indices_B: NDArray[np.int64]) -> Samples:
        return Samples(
            image_BHWC=np.stack([self._draw(int(index)) for index in indices_B]),
            label_B=np.asarray(indices_B, np.int64).copy(),
        )

    def _draw(self, index: int) -> NDArray[np.uint8]:
        from scipy.ndimage import map_coordinates

        spec = self._spec
        rng = seeds.generator("one photo", self._seed, index)
        x_HW, y_HW = WARPS[spec.warp](rng, spec.delta, spec.size_px)
        at_2HW = (np.stack([y_HW, x_HW]) + 1) * spec.size_px / 2 - 0.5  # centres of pixels
        image_HWC = np.empty(spec.shape, np.uint8)
        for channel in range(spec.shape[2]):
            # "grid-constant" fades to black over the last pixel; "constant" would cut off its outer half.
            values_HW = map_coordinates(self._photo_HWC[:, :, channel], at_2HW, order=1, mode="grid-constant")
            image_HWC[:, :, channel] = np.rint(values_HW)
        return image_HWC


def grid(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates x and y of the centres of pixels, each (H, W), the side from -1 to 1."""
    at = (2 * np.arange(size) + 1) / size - 1
    x_HW, y_HW = np.meshgrid(at, at)
    return x_HW, y_HW


def affine(rng: np.random.Generator, delta: float, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The identity with noise on all six parameters."""
    (a, b, e), (c, d, f) = np.eye(2, 3) + delta * (rng.random((2, 3)) - 0.5)
    x_HW, y_HW = grid(size)
    return a * x_HW + b * y_HW + e, c * x_HW + d * y_HW + f


def perspective(rng: np.random.Generator, delta: float, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The map of the plane that takes the four corners to their moved places."""
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    moved = corners + delta * (rng.random((4, 2)) - 0.5)
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, moved, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    h = np.append(np.linalg.solve(np.array(rows), np.array(values)), 1.0)
    x_HW, y_HW = grid(size)
    depth_HW = h[6] * x_HW + h[7] * y_HW + h[8]
    return (h[0] * x_HW + h[1] * y_HW + h[2]) / depth_HW, (h[3] * x_HW + h[4] * y_HW + h[5]) / depth_HW


def polynomial(rng: np.random.Generator, delta: float, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The identity and two quadratics in x and y."""
    coefficients = delta * (rng.random((2, len(QUADRATIC))) - 0.5)
    x_HW, y_HW = grid(size)
    terms = np.stack([x_HW**across * y_HW**down for across, down in QUADRATIC])
    shift_2HW = np.tensordot(coefficients, terms, axes=1)
    return x_HW + shift_2HW[0], y_HW + shift_2HW[1]


def elastic(rng: np.random.Generator, delta: float, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The identity and smoothed noise (Simard et al., 2003)."""
    from scipy.ndimage import gaussian_filter

    noise_2HW = rng.standard_normal((2, size, size))
    field_2HW = np.stack([gaussian_filter(noise_HW, ELASTIC_SHARE * size, mode="reflect") for noise_HW in noise_2HW])
    field_2HW *= delta / 4 / field_2HW.std()
    x_HW, y_HW = grid(size)
    return x_HW + field_2HW[0], y_HW + field_2HW[1]


WARPS = {"affine": affine, "perspective": perspective, "polynomial": polynomial, "elastic": elastic}
