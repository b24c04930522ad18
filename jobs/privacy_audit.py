"""Does a classifier tell which images it was made from? Does it still, if it has only seen images drawn after them?

Sixteen classifiers for each arm, each made from its own half of 500 labelled images of Fashion-MNIST, a tenth of which
are canaries with wrong labels; then the likelihood-ratio attack (Carlini et al., S&P 2022), each model the target once:

    real         trained on its members until it knows them by heart: memorisation that an audit must find
    drawn        trained on one image drawn after each member (embedded generator, not adapted; it begins half way)
    independent  trained on members of another draw: nothing to be found
    private      trained on its members with differential privacy (DP-SGD, epsilon about 8 at delta 0.001)
    stricter     the same, epsilon about 2
    unprotected  the same network as private, trained as real is: what its privacy hides, and what it costs

    python jobs/privacy_audit.py

DP-SGD needs a backbone without batch norms. Of the ViTs tried, one whose only patch is the whole image learnt most
under the noise: 65 % of test images, against 54 % with patches of 14 px and 42 % of 7 px (a few settings each, for one
model of the other draw, so that the images of the audit chose nothing).

The shadow models are a study as any other (``plan``, ``status``, ``--placement`` work); the attack follows. It prints
a table of the arms that are complete and writes ``report/privacy-audit/audit.json`` and ``roc-*.svg``. Fashion-MNIST
comes with Debian's package dataset-fashion-mnist.
"""

import argparse
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np

from scaleback.cli import main
from scaleback.core.store import Store
from scaleback.evaluations.confidences import FILE
from scaleback.evaluations.run import SCORES, Evaluate
from scaleback.scaling.figures import attacks
from scaleback.scaling.privacy import lira_offline, lira_online
from scaleback.scaling.roc import Attack, attack_summary
from scaleback.sources.members import Members, memberships, mislabelled_canaries
from scaleback.study.study import Point, Study

MODELS, SAMPLES, CANARIES = 16, 500, 0.1
LABELLED = {"kind": "fashion_mnist", "fold": [0, 2]}
POOL = {"kind": "members", "real": LABELLED, "images": SAMPLES, "models": MODELS, "canaries": CANARIES}
SEARCHED = {**POOL, "order": 0}
ARMS = ("real", "drawn", "independent", "private", "stricter", "unprotected")
NOISE_STEPS = {"private": (2.3, 60), "stricter": (4.9, 30)}
"""Of training with differential privacy: noise as a multiple of the clip, and steps."""

ONE_PATCH = {
    "model": "vit_tiny_patch16_224",
    "image_px": 28,
    "channels": 1,
    "patch_px": 28,
    "width": 32,
    "depth": 1,
    "heads": 4,
    "mlp_ratio": 2.0,
    "pool": "avg",
}


def dp_sgd(noise: float, steps: int) -> dict[str, object]:
    """How a private model is trained."""
    recipe = {
        "batch_images": 128,
        "budget_images": steps * 128,
        "warmup_images": 0,
        "optimizer": {"kind": "sgd", "lr": 0.2, "weight_decay": 0.0},
    }
    settings: dict[str, object] = {f"evaluations.confidences.recipe.{name}": value for name, value in recipe.items()}
    return {"evaluations.confidences.private": {"noise": noise, "clip": 1.0, "delta": 1e-3}, **settings}


def case(arm: str, model: int) -> dict[str, object]:
    """What a shadow model is made from."""
    draw = 1 if arm == "independent" else 0
    count = int(memberships(SAMPLES, MODELS, draw)[model].sum())
    data = {**POOL, "model": model, "draw": draw}
    drawn = {
        "kind": "diffusion",
        "real": data,
        "real_images": count,
        "generator": "fashion",
        "guidance": "image",
        "strength": 0.5,
        "steps": 8,
        "guidance_scale": 1.0,
    }
    synthetic = {"source": drawn, "images": count, "role": "alone"} if arm == "drawn" else None
    backbone = {"backbone": ONE_PATCH} if arm in ("unprotected", *NOISE_STEPS) else {}
    # Every model has first weights of its own.
    setting = {"target": {"data": data, "images": count, "synthetic": synthetic}, "seed": model}
    return {**setting, **backbone, **(dp_sgd(*NOISE_STEPS[arm]) if arm in NOISE_STEPS else {})}


STUDY = {
    "name": "privacy-audit",
    "purpose": "Do classifiers tell which images they were made from?",
    "base": {
        "source": LABELLED,
        "images": 0,
        "objective": "classify",
        "recipe": "small",
        "backbone": {"model": "test_resnet", "image_px": 28, "channels": 1},
        "target": {"data": LABELLED, "images": 100},
        "evaluations": [
            {
                "kind": "confidences",
                "pool": SEARCHED,
                "smoothing": 0.0,
                "recipe": {
                    "preset": "small",
                    "budget_images": 12_000,
                    "optimizer.lr": 3e-3,
                    "optimizer.weight_decay": 0.0,
                    "schedule": "cosine",
                    "views": [{}],
                    "ema": None,
                },
            }
        ],
        "seed": 0,
    },
    "axes": [
        {
            "kind": "cases",
            "field": "shadow",
            "cases": {f"{arm} {model}": case(arm, model) for arm in ARMS for model in range(MODELS)},
        }
    ],
    "seeds": [0],
    "baseline": False,
    "measures": [{"evaluation": "confidences"}],
}


def shadows(arm: str) -> list[Evaluate]:
    """The stages of an arm, one a model."""
    study = Study.parse(STUDY)
    return [study.run(Point(values={"shadow": f"{arm} {model}"}), 0).evaluates[0] for model in range(MODELS)]


def complete(store: Store) -> list[str]:
    """The arms of which every model is there."""
    return [arm for arm in ARMS if all(store.manifest(spec.address, spec) is not None for spec in shadows(arm))]


def artifacts(store: Store, arm: str, name: str) -> list[bytes]:
    """A file of each model of an arm."""
    manifests = [store.manifest(spec.address, spec) for spec in shadows(arm)]
    return [store.read(manifest, name) for manifest in manifests if manifest is not None]


def confidences(store: Store, arm: str) -> np.ndarray:
    """(M, N) of the models of an arm, in the order of the pool."""
    rows = [np.load(io.BytesIO(file), allow_pickle=False) for file in artifacts(store, arm, FILE)]
    found = np.empty((MODELS, SAMPLES))
    found[:, Members.parse(SEARCHED).ordered(0)] = np.stack(rows)
    return found


def worth(store: Store, arm: str) -> dict[str, float | None]:
    """Accuracy on test images, mean of the models; epsilon, the largest of them, None where nothing is guaranteed."""
    scores = [{row["metric"]: row["value"] for row in json.loads(file)} for file in artifacts(store, arm, SCORES)]
    epsilons = [one["epsilon"] for one in scores if "epsilon" in one]
    accuracy = float(np.mean([one["accuracy"] for one in scores]))
    return {"accuracy": accuracy, "epsilon": max(epsilons) if epsilons else None}


def audit(store: Store) -> dict[str, dict[str, Attack]]:
    """Arm and attack -> group of samples -> what was found."""
    member_MN = memberships(SAMPLES, MODELS, 0)
    clean = Members.parse({**POOL, "canaries": 0.0}).labels()
    canary_N = np.isin(np.arange(SAMPLES), mislabelled_canaries(clean, CANARIES, 10, 0)[0])
    found = {}
    for arm in complete(store):
        confidence_MN = confidences(store, arm)
        for name, attack in (("online", lira_online), ("offline", lira_offline)):
            score_MN = attack(confidence_MN, member_MN)
            found[f"{arm}, {name}"] = {
                group: attack_summary(score_MN[:, chosen_N], member_MN[:, chosen_N])
                for group, chosen_N in (("rightly labelled", ~canary_N), ("canaries", canary_N))
            }
    return found


def plain(attack: Attack) -> dict[str, object]:
    """As printed and stored."""
    area = attack.area
    return {
        "auc": area.mean,
        "auc_interval": [area.low, area.high],
        "balanced_accuracy": attack.balanced_accuracy,
        "true_positive_rate_at": {str(rate): value for rate, value in attack.true_positive.items()},
    }


def show(found: dict[str, dict[str, Attack]], store: Store, *, as_json: bool) -> None:
    """Print the table, write the files."""
    facts = {name: {group: plain(one) for group, one in groups.items()} for name, groups in found.items()}
    curves = {f"{name}, {group}": one.curve for name, groups in found.items() for group, one in groups.items()}
    arms = {arm: worth(store, arm) for arm in complete(store)}
    kept = {"attacks": facts, "arms": arms, "curves": curves}
    store.put("report/privacy-audit/audit.json", json.dumps(kept, indent=1).encode())
    for group in ("rightly labelled", "canaries"):
        shown = {name: curve for name, curve in curves.items() if ", online" in name and name.endswith(group)}
        store.put(f"report/privacy-audit/roc-{group.replace(' ', '-')}.svg", attacks(shown).encode())
    print(f"{'trained on, attack':<22}{'samples':<18}{'AUC':<23}{'TPR at 1 % FPR':<16}TPR at 0.1 % FPR")
    for name, groups in found.items():
        for group, one in groups.items():
            rates = [one.true_positive[rate] for rate in (1e-2, 1e-3)]
            told = "".join(f"{'too few' if rate is None else f'{100 * rate:.1f} %':<16}" for rate in rates)
            area = f"{one.area.mean:.3f} [{one.area.low:.3f}, {one.area.high:.3f}]"
            print(f"{name:<22}{group:<18}{area:<23}{told}")
    print(f"\n{'trained on':<22}{'accuracy':<18}epsilon")
    for arm, each in arms.items():
        epsilon = "none" if each["epsilon"] is None else f"{each['epsilon']:.2f}"
        share = f"{100 * each['accuracy']:.1f} %"
        print(f"{arm:<22}{share:<18}{epsilon}")
    if as_json:
        print(json.dumps({"attacks": facts, "arms": arms}))


if __name__ == "__main__":
    code = main(study=STUDY)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--storage", default="results")
    parser.add_argument("--json", action="store_true")
    options, _ = parser.parse_known_args()
    # A verb comes first; anything later may be an option's value.
    verb = next((word for word in sys.argv[1:2] if not word.startswith("-")), "run")
    if code == 0 and verb == "run":
        store = Store(options.storage)
        show(audit(store), store, as_json=options.json)
    sys.exit(code)
