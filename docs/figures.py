"""Makes the pictures of README.md: ``make figures``, after ``make sweep`` and ``jobs/synthetic_multiplier.py``."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scaleback.core.store import Store
from scaleback.scaling.figures import curve, synthetic
from scaleback.scaling.synthetic import arms
from scaleback.sources import Source
from scaleback.sources.dead_leaves import DeadLeaves
from scaleback.sources.exfractaldb import ExFractalDB
from scaleback.sources.fractal_scenes import MultiClassFractals, MultiInstanceFractals
from scaleback.sources.fractaldb import OFDB, FractalDB
from scaleback.sources.moire import Moire
from scaleback.sources.one_fractal import OnePFrac
from scaleback.sources.one_photo import OnePhoto
from scaleback.sources.perlin import Perlin
from scaleback.sources.point_cloud import PointCloud
from scaleback.sources.rcdb import RCDB
from scaleback.sources.spectrum import Spectrum
from scaleback.sources.visual_atom import VisualAtom
from scaleback.study.files import load_study
from scaleback.study.gather import gather

HERE = Path(__file__).resolve().parent
SIDE, IMAGES, MARGIN = 72, 8, 150
SHOWN: dict[str, Source] = {
    "1p-frac": OnePFrac(size_px=288, delta=0.3, mask="fill", base_min_fill=0.15),
    "fractaldb": FractalDB(size_px=288, categories=2),
    "ofdb": OFDB(size_px=288),
    "exfractaldb": ExFractalDB(categories=8, points=40_000),
    "rcdb": RCDB(categories=8),
    "visual-atom": VisualAtom(categories=8),
    "multi-class-fractals": MultiClassFractals(categories=8),
    "multi-instance-fractals": MultiInstanceFractals(categories=8),
    "one-photo": OnePhoto(size_px=288),
    "one-photo, rgb, elastic": OnePhoto(size_px=288, look="rgb", warp="elastic", delta=0.3),
    "point-cloud": PointCloud(size_px=288, points=20_000),
    "spectrum": Spectrum(size_px=144),
    "perlin": Perlin(size_px=144),
    "dead-leaves": DeadLeaves(size_px=144),
    "moire": Moire(size_px=144),
}


def sources() -> Image.Image:
    """A row of images of each source."""
    step = SIDE + 2
    sheet = Image.new("RGB", (MARGIN + IMAGES * step, len(SHOWN) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, source) in enumerate(SHOWN.items()):
        pen.text((4, row * step + SIDE // 2 - 6), name, fill="black")
        for column, image_HWC in enumerate(source.open(1)(np.arange(IMAGES)).image_BHWC):
            pixels = Image.fromarray(image_HWC[:, :, 0] if image_HWC.shape[2] == 1 else image_HWC)
            small = pixels.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
            sheet.paste(small, (MARGIN + column * step, row * step))
    return sheet


def default_study(storage: str) -> str:
    """Accuracy at the short budget against the number of images, as the report draws it."""
    content = gather(load_study("scaling_sweep"), Store(storage))
    cells = content.cells(content.measures[0])
    baselines = [cell for cell in cells if cell.baseline]
    points = [cell for cell in cells if not cell.baseline]
    return curve(points, "images", baselines, content.measures[0])


def multiplier(storage: str) -> str | None:
    """Accuracy against the number of drawn images beside real ones, as the report draws it; None without a result."""
    content = gather(load_study("synthetic_multiplier"), Store(storage))
    for arm in arms(content):
        if "drawn" in arm.name and "added" in arm.name:
            return synthetic(arm.lines, arm.measure)
    return None


if __name__ == "__main__":
    (HERE / "report.svg").write_text(default_study(sys.argv[1]))
    if (drawing := multiplier(sys.argv[1])) is not None:
        (HERE / "multiplier.svg").write_text(drawing)
    sources().save(HERE / "sources.jpg", quality=82, optimize=True)
