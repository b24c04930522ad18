"""What a trial costs beside its training: from its start to its first training step, and all in all.

Trials run one at a time, each a pre-training run of 20 steps of the default study's model and a kNN evaluation; the
first, which starts processes and imports torch, is shown apart. Images are rendered before the first trial starts.

    python jobs/bench_overhead.py [--quick] [--json]

``trial_overhead_s``: median over the later trials of the time from the start of a trial, as Tune counts it, to the end
of its first training step. ``trial_beside_training_s``: median time from the end of one trial to the end of the next,
less the seconds spent in the training loop and in the evaluation.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from scaleback.cluster.placement import load_placement
from scaleback.cluster.progress import Progress
from scaleback.cluster.search import run_study
from scaleback.core.store import Store
from scaleback.study.files import DEFAULT, load_study
from scaleback.study.plan import plan_study
from scaleback.study.study import Study

BATCH, STEPS = 32, 20


def bench_study(trials: int) -> Study:
    """One run a seed, each with a population of its own."""
    changes = {
        "recipe.budget_images": BATCH * STEPS,
        "recipe.warmup_images": BATCH * STEPS // 10,
        "evaluations": [{"kind": "knn", "neighbours": 5}],
    }
    return Study.parse(
        {
            "name": "bench-overhead",
            "base": load_study(DEFAULT).base.replace(changes).plain(),
            "axes": [],
            "seeds": list(range(trials)),
            "baseline": False,
            "measures": [{"evaluation": "knn"}],
        }
    )


class Clock(Progress):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.ended_s: list[float] = []

    def ran(self, done: int, total: int, note: str) -> None:
        self.ended_s.append(time.perf_counter())


def first_steps(store: Store) -> list[float]:
    """For each trial, in the order they ran: seconds from its start to the end of its first training step."""
    rows = []
    for name in store.files("tune/bench-overhead"):
        if name.endswith("/result.json"):
            data = store.get(name)
            assert data is not None, f"{name} was listed"
            first = json.loads(data.splitlines()[0])
            assert (first["stage"], first["images_seen"]) == ("pretrain", BATCH), first
            rows.append((first["timestamp"], first["time_total_s"]))
    return [seconds for _, seconds in sorted(rows)]


def measure(trials: int) -> dict[str, float]:
    """Run the study in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        store, clock, study = Store(folder), Clock(), bench_study(trials)
        placement = load_placement("laptop", {"runs_at_once": 1})
        outcome = run_study(study, store, placement, clock)
        assert not outcome.failed, outcome.failed
        to_first_step = first_steps(store)
        worked = []
        for planned in plan_study(study, store).runs:
            run = planned.run
            assert run.pretrain is not None, "this study pre-trains"
            records = [store.manifest(spec.address).record for spec in (run.pretrain, *run.evaluates)]  # type: ignore[union-attr]
            worked.append(sum(record.get("train_s", 0) + record.get("evaluate_s", 0) for record in records))
    # Seed by seed, one at a time: the k-th to end is the k-th run of the plan.
    beside = [
        end - begin - work for begin, end, work in zip(clock.ended_s, clock.ended_s[1:], worked[1:], strict=False)
    ]
    return {
        "trials": trials,
        "first_trial_overhead_s": round(to_first_step[0], 3),
        "trial_overhead_s": round(statistics.median(to_first_step[1:]), 3),
        "trial_overhead_max_s": round(max(to_first_step[1:]), 3),
        "trial_beside_training_s": round(statistics.median(beside), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 trials in place of 20")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    options = parser.parse_args()
    figures = measure(5 if options.quick else 20)
    for name, value in figures.items():
        print(f"{name:26}{value:g}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
