"""Train the embedded generator that comes with the package: unlabelled Fashion-MNIST, the part that no study labels.

    python jobs/train_generator.py [--storage results]

Trains the preset ``fashion`` (half of Fashion-MNIST's training images, MIT licence, from Debian's package
dataset-fashion-mnist) and writes its weights to ``platform/scaleback/sources/diffusing/weights``, under the slug of the
spec: there the stage finds them, and does not train. Start it again to go on where it was.
"""

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "platform"))

import torch

from scaleback.adapt.run import SHIPPED, run_learning
from scaleback.core.store import Store
from scaleback.pretrain.world import World
from scaleback.sources.diffusing.opened import WEIGHTS
from scaleback.sources.generators import Embedded, generator_presets
from scaleback.sources.learnt import Trained
from scaleback.sources.population import missing_blocks, render_block

NAME = "fashion"


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="results", help="where checkpoints and the artifact go")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    spec = generator_presets()[NAME]
    assert isinstance(spec, Embedded), "it is trained here"
    store, stage, begun = Store(options.storage), Trained.of(spec), time.perf_counter()
    for block in missing_blocks(store, stage.population, stage.images):
        render_block(store, stage.population, block)

    def report(row: dict[str, float]) -> None:
        seconds = time.perf_counter() - begun
        print(f"{row['images_seen']:>9,.0f} images  loss {row['loss']:.4f}  {seconds:,.0f} s", flush=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    manifest = store.manifest(stage.address, stage) or run_learning(stage, store, World(device=device), report=report)
    assert manifest is not None, "this is the only worker"
    SHIPPED.mkdir(exist_ok=True)
    file = SHIPPED / f"{spec.slug}.safetensors"
    file.write_bytes(store.read(manifest, WEIGHTS))
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
