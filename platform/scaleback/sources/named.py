"""Data sets known by name: two that need no network, and every one that torchvision and the Hugging Face hub know."""

from __future__ import annotations

import gzip
import inspect
import io
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from scaleback.core.errors import DataError, unknown
from scaleback.sources.real import Catalogue, RealSource, checked_labels, decode_file, held_out

DIGITS_TEST_SHARE = 1_000 / 1_797
DIGITS_IMAGES = {"train": 797, "test": 1_000}
FASHION_IMAGES = {"train": 60_000, "test": 10_000}
FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts its four files."""
FASHION_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CACHE = Path.home() / ".cache" / "scaleback"


class Digits(RealSource):
    """scikit-learn's digits: 1,797 real 8x8 gray images of ten classes, in every installation.

    They come without splits; 1,000 images, balanced over classes, are the test split, 797 the train split.
    """

    names_classes: ClassVar[bool] = False
    kind: Literal["digits"] = "digits"

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return 8, 8, 1

    def own_classes(self) -> int:
        return 10

    def own_images(self) -> int:
        return DIGITS_IMAGES[self.split]

    def labels(self) -> NDArray[np.int64]:
        return self.catalogue().label_N

    def catalogue(self) -> Catalogue:
        from sklearn.datasets import load_digits

        data = load_digits()
        image_NHWC = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
        label_N = data.target.astype(np.int64)
        kept_N = held_out(label_N, DIGITS_TEST_SHARE, self.split)
        return Catalogue(
            label_N=label_N[kept_N],
            decode=lambda place: image_NHWC[kept_N[place]],
            class_names=[str(digit) for digit in range(10)],
        )

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls()


class FashionMNIST(RealSource):
    """Fashion-MNIST (Xiao et al., 2017): 70,000 gray images of 28 px, ten classes, as the four files of its authors."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    path: str = FASHION_FOLDER
    """Folder of the gzip IDX files."""

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return 28, 28, 1

    def own_classes(self) -> int:
        return 10

    def own_images(self) -> int:
        for part in ("images-idx3", "labels-idx1"):
            if not self._file(part).is_file():
                raise DataError(
                    f"{self._file(part)}: must be there; install Debian's dataset-fashion-mnist, or set path to a "
                    "folder that holds the file, or use the source {kind: torchvision, name: FashionMNIST}"
                )
        return FASHION_IMAGES[self.split]

    def labels(self) -> NDArray[np.int64]:
        self.own_images()
        return checked_labels(_idx(self._file("labels-idx1"), 1), 10, self.path)

    def catalogue(self) -> Catalogue:
        label_N, image_NHW = self.labels(), _idx(self._file("images-idx3"), 3)
        if image_NHW.shape != (FASHION_IMAGES[self.split], 28, 28) or label_N.shape != image_NHW.shape[:1]:
            raise DataError(
                f"{self.path}: holds images {image_NHW.shape} and labels {label_N.shape}, not Fashion-MNIST's"
            )
        return Catalogue(
            label_N=label_N,
            decode=lambda place: image_NHW[place][..., None],
            class_names=FASHION_CLASSES,
        )

    def _file(self, part: str) -> Path:
        return Path(self.path) / f"{'train' if self.split == 'train' else 't10k'}-{part}-ubyte.gz"

    @classmethod
    def example(cls, scratch: Path) -> Self:
        folder = scratch / "fashion"
        folder.mkdir(exist_ok=True)
        for prefix, count in (("train", FASHION_IMAGES["train"]), ("t10k", FASHION_IMAGES["test"])):
            pixels = np.arange(count * 28 * 28, dtype=np.uint32).astype(np.uint8).tobytes()
            labels = (np.arange(count) % 10).astype(np.uint8).tobytes()
            for part, head, body in (
                ("images-idx3", struct.pack(">IIII", 0x803, count, 28, 28), pixels),
                ("labels-idx1", struct.pack(">II", 0x801, count), labels),
            ):
                (folder / f"{prefix}-{part}-ubyte.gz").write_bytes(gzip.compress(head + body, 1))
        return cls(path=str(folder))


class Torchvision(RealSource):
    """A classification data set of ``torchvision.datasets`` by its class name; downloaded where there is a network."""

    kind: Literal["torchvision"] = "torchvision"
    name: str
    size_px: int = Field(ge=4)
    channels: Literal[1, 3] = 3
    root: str = str(CACHE / "torchvision")

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, self.channels

    def own_classes(self) -> int:
        return len(_torchvision(self)[2])

    def own_images(self) -> int:
        return len(_torchvision(self)[1])

    def labels(self) -> NDArray[np.int64]:
        return _torchvision(self)[1]

    def catalogue(self) -> Catalogue:
        data, label_N, names = _torchvision(self)

        def decode(place: int) -> NDArray[np.uint8]:
            return _encoded_and_read(data[place][0], self.size_px, self.shape[2], f"{self.name}[{place}]")

        return Catalogue(label_N=label_N, decode=decode, class_names=names)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        return cls(name="FakeData", size_px=16)


class HuggingFace(RealSource):
    """A data set of the Hugging Face hub by its name, or a local folder in its layout (extra ``hub``)."""

    kind: Literal["huggingface"] = "huggingface"
    name: str
    size_px: int = Field(ge=4)
    channels: Literal[1, 3] = 3
    config: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    split_names: tuple[str, str] = ("train", "test")
    """What the data set calls its train and its test split."""

    @model_validator(mode="after")
    def _installed(self) -> Self:
        import importlib.util

        if importlib.util.find_spec("datasets") is None:
            raise ValueError("needs the package datasets; pip install 'scaleback[hub]'")
        return self

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return self.size_px, self.size_px, self.channels

    def own_classes(self) -> int:
        return len(_huggingface(self)[2])

    def own_images(self) -> int:
        return len(_huggingface(self)[1])

    def labels(self) -> NDArray[np.int64]:
        return _huggingface(self)[1]

    def catalogue(self) -> Catalogue:
        data, label_N, names = _huggingface(self)

        def decode(place: int) -> NDArray[np.uint8]:
            image = data[place][self.image_column]
            return _encoded_and_read(image, self.size_px, self.shape[2], f"{self.name}[{place}]")

        return Catalogue(label_N=label_N, decode=decode, class_names=names)

    @classmethod
    def example(cls, scratch: Path) -> Self:
        from PIL import Image

        for number in range(8):
            split = "train" if number < 6 else "test"
            file = scratch / "hub" / split / f"class_{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 10), (20 * number + 10, 40, 90)).save(file)
        return cls(name=str(scratch / "hub"), size_px=16)


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file: two zero bytes, type 8 (uint8), the number of dimensions, their sizes, the values."""
    try:
        data = gzip.decompress(path.read_bytes())
        magic, *shape = struct.unpack(f">{1 + dimensions}I", data[: 4 * (1 + dimensions)])
        if magic != 0x800 + dimensions:
            raise DataError(f"{path}: is not an IDX file of {dimensions}-dimensional bytes")
        return np.frombuffer(data, np.uint8, offset=4 * (1 + dimensions)).reshape(shape)
    except (OSError, EOFError, struct.error, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is not an IDX file ({error})") from error


@lru_cache(maxsize=4)
def _torchvision(spec: Torchvision) -> tuple[Any, NDArray[np.int64], list[str]]:
    from scaleback.torchvision_operators import declare

    declare()
    from torchvision import datasets

    if spec.name not in datasets.__all__:
        raise DataError(f"name: {unknown('data set of torchvision', spec.name, datasets.__all__)}")
    cls = getattr(datasets, spec.name)
    fields = inspect.signature(cls).parameters
    choice: dict[str, Any] = {"root": spec.root} if "root" in fields else {}
    choice |= {"download": True} if "download" in fields else {}
    choice |= {"train": spec.split == "train"} if "train" in fields else {}
    choice |= {"split": spec.split} if "split" in fields else {}
    choice |= {"size": 40} if spec.name == "FakeData" else {}
    try:
        data = cls(**choice)
        labels = getattr(data, "targets", None)
        label_N = np.asarray(labels if labels is not None else [int(data[place][1]) for place in range(len(data))])
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{spec.name}: torchvision cannot give it ({' '.join(str(error).split())[:120]})") from error
    classes = int(label_N.max()) + 1
    names = [str(name) for name in getattr(data, "classes", [])] or [str(number) for number in range(classes)]
    return data, checked_labels(label_N, len(names), spec.name), names


@lru_cache(maxsize=4)
def _huggingface(spec: HuggingFace) -> tuple[Any, NDArray[np.int64], list[str]]:
    import datasets

    wanted = spec.split_names[0 if spec.split == "train" else 1]
    try:
        data = datasets.load_dataset(spec.name, spec.config, split=wanted)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{spec.name}: cannot be loaded ({' '.join(str(error).split())[:120]})") from error
    for column in (spec.image_column, spec.label_column):
        if column not in data.column_names:
            raise DataError(f"{spec.name}: {unknown('column', column, data.column_names)}")
    label_N = np.asarray(data[spec.label_column])
    names = getattr(data.features[spec.label_column], "names", None)
    names = list(names or [str(number) for number in range(int(label_N.max()) + 1)])
    return data, checked_labels(label_N, len(names), spec.name), names


def _encoded_and_read(image: Any, size_px: int, channels: int, where: str) -> NDArray[np.uint8]:
    """Cut and resize a PIL image by the one road that files take too."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=0)
    stream.seek(0)
    return decode_file(stream, size_px, channels, where)
