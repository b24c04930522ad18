"""Images a second that a generator draws through Ray Data, beside a bare loop of the same sampler.

    python jobs/bench_generate.py [--quick] [--json]

The preset ``fashion``, as it comes with the package, draws after Fashion-MNIST (Debian's package
dataset-fashion-mnist): 8 steps of UniPC, each image guided by a real one and begun from it. The bare loop is one
process with one thread that calls the sampler on ready-made noise and tokens and keeps nothing. Ray Data has one core,
and renders to storage: draws of noise, looks, pixels, compression, leases and manifests are in its time, the start of
Ray and of a worker (one small population is drawn first) are not. The two take turns, so that both meet the same
machine; on a GPU, both use it.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import torch

from scaleback.cluster import runtime
from scaleback.cluster.placement import Placement
from scaleback.cluster.render import render
from scaleback.core.store import Store
from scaleback.sources.diffusing.reader import opened
from scaleback.sources.diffusing.sampling import sample
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.population import Population
from scaleback.study.files import load_study

ROUNDS = 3


def source(real_images: int) -> Diffusion:
    """As the study of the multiplier draws, without its adaptation."""
    study = load_study("synthetic_multiplier")
    synthetic = study.base.target.synthetic
    assert synthetic is not None
    assert isinstance(synthetic.source, Diffusion)
    return synthetic.source.replace({"adaptation": None, "real_images": real_images})


def bare(spec: Diffusion, store: Store, images: int) -> float:
    """Images a second of the sampler alone."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    diffuser = opened(spec, 0, store, ()).to(device)
    together = diffuser.together[device.type]
    noise = torch.randn(together, *diffuser.latent_shape, device=device)
    none = torch.zeros(together, dtype=torch.long, device=device)
    with torch.no_grad():
        told = diffuser.told(none, none, diffuser.looks(torch.zeros(together, *_channels_first(spec), device=device)))

    def draw() -> None:
        drawn = sample(
            diffuser,
            noise,
            told,
            steps=spec.steps,
            guidance_scale=spec.guidance_scale,
            prior_BCHW=torch.zeros_like(noise),
            strength=spec.strength,
        )
        drawn.sum().item()  # waits for the GPU

    draw()
    begun, batches = time.perf_counter(), max(1, images // together)
    for _ in range(batches):
        draw()
    return batches * together / (time.perf_counter() - begun)


def _channels_first(spec: Diffusion) -> tuple[int, int, int]:
    height, width, channels = spec.shape
    return channels, height, width


def through_ray(spec: Diffusion, store: Store, seed: int, images: int) -> float:
    """Images a second of a render job, from its call to its end."""
    begun = time.perf_counter()
    failed = render(store, [(Population.of(spec, seed), images)])
    assert not failed, failed
    return images / (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="512 images a round in place of 2,048, one round")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    options = parser.parse_args()
    images, rounds = (512, 1) if options.quick else (2_048, ROUNDS)
    torch.set_num_threads(1)
    gpus = torch.cuda.device_count()
    spec = source(256)
    with tempfile.TemporaryDirectory() as folder, runtime.cluster(Placement(cpus=1, gpus=min(1, gpus))):
        from scaleback.adapt.run import learn

        store = Store(folder)
        learn(spec, 0, store)
        through_ray(spec, store, 1_000, 64)
        rates = [(bare(spec, store, images), through_ray(spec, store, seed, images)) for seed in range(1, rounds + 1)]
    alone, ray = (statistics.median(rate) for rate in zip(*rates, strict=True))
    share = statistics.median(one / other for other, one in rates)
    print(f"bare loop      {alone:8.1f} images/s")
    print(f"through Ray    {ray:8.1f} images/s, {100 * share:.1f} % of the bare loop")
    if options.json:
        facts = {"bare_images_per_s": alone, "ray_images_per_s": ray, "ray_share_of_bare_loop": share}
        print(json.dumps({**{name: round(value, 4) for name, value in facts.items()}, "images": images}))


if __name__ == "__main__":
    main()
