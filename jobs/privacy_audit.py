"""Does a classifier tell which images it was made from? Does it still, if it has only seen images drawn after them?

Sixteen classifiers for each arm, each made from its own half of 500 labelled images of Fashion-MNIST, a tenth of which
are canaries with wrong labels; then the likelihood-ratio attack (Carlini et al., S&P 2022), each model the target once:

    real         trained on its members until it knows them by heart: memorisation that an audit must find
    drawn        trained on one image drawn after each member (embedded generator, not adapted; it begins half way)
    independent  trained on members of another draw: nothing to be found

    python jobs/privacy_audit.py

The shadow models are a study as any other (``plan``, ``status``, ``--placement`` work); the attack follows. It prints a
table and writes ``report/privacy-audit/audit.json`` and ``roc.svg``. Fashion-MNIST comes with Debian's package
dataset-fashion-mnist.
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
from scaleback.scaling.figures import attacks
from scaleback.scaling.privacy import lira_offline, lira_online
from scaleback.scaling.roc import Attack, attack_summary
from scaleback.sources.members import Members, memberships, mislabelled_canaries
from scaleback.study.study import Point, Study

MODELS, SAMPLES, CANARIES = 16, 500, 0.1
LABELLED = {"kind": "fashion_mnist", "fold": [0, 2]}
POOL = {"kind": "members", "real": LABELLED, "images": SAMPLES, "models": MODELS, "canaries": CANARIES}
SEARCHED = {**POOL, "order": 0}
ARMS = ("real", "drawn", "independent")


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
    # Every model has first weights of its own.
    return {"target": {"data": data, "images": count, "synthetic": synthetic}, "seed": model}


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


def confidences(store: Store, arm: str) -> np.ndarray:
    """(M, N) of the models of an arm, in the order of the pool."""
    rows, study = [], Study.parse(STUDY)
    for model in range(MODELS):
        (spec,) = study.run(Point(values={"shadow": f"{arm} {model}"}), 0).evaluates
        manifest = store.manifest(spec.address, spec)
        assert manifest is not None, "the study has run"
        rows.append(np.load(io.BytesIO(store.read(manifest, FILE)), allow_pickle=False))
    found = np.empty((MODELS, SAMPLES))
    found[:, Members.parse(SEARCHED).ordered(0)] = np.stack(rows)
    return found


def audit(store: Store) -> dict[str, dict[str, Attack]]:
    """Arm and attack -> group of samples -> what was found."""
    member_MN = memberships(SAMPLES, MODELS, 0)
    clean = Members.parse({**POOL, "canaries": 0.0}).labels()
    canary_N = np.isin(np.arange(SAMPLES), mislabelled_canaries(clean, CANARIES, 10, 0)[0])
    found = {}
    for arm in ARMS:
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
    kept = {"attacks": facts, "curves": curves}
    store.put("report/privacy-audit/audit.json", json.dumps(kept, indent=1).encode())
    shown = {name: curve for name, curve in curves.items() if ", online" in name}
    store.put("report/privacy-audit/roc.svg", attacks(shown).encode())
    print(f"{'trained on, attack':<22}{'samples':<20}{'AUC':<24}{'TPR at 1 % FPR':<16}TPR at 0.1 % FPR")
    for name, groups in found.items():
        for group, one in groups.items():
            rates = [one.true_positive[rate] for rate in (1e-2, 1e-3)]
            told = "".join(f"{'too few' if rate is None else f'{100 * rate:.1f} %':<16}" for rate in rates)
            area = f"{one.area.mean:.3f} [{one.area.low:.3f}, {one.area.high:.3f}]"
            print(f"{name:<22}{group:<20}{area:<24}{told}")
    if as_json:
        print(json.dumps(facts))


if __name__ == "__main__":
    code = main(study=STUDY)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("verb", nargs="?", default="run")
    parser.add_argument("--storage", default="results")
    parser.add_argument("--json", action="store_true")
    options, _ = parser.parse_known_args()
    if code == 0 and options.verb == "run":
        store = Store(options.storage)
        show(audit(store), store, as_json=options.json)
    sys.exit(code)
