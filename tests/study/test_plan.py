"""The plan: what is to be done, each stage once, and what a real store holds of it already."""

import pickle
import time
import tracemalloc

import pytest

from scaleback.core.errors import DataError
from scaleback.sources.population import render_block
from scaleback.study.files import changed, load_study
from scaleback.study.plan import plan_study
from scaleback.study.study import Point

DELTAS, COUNTS, SEEDS = (0.1, 0.2), (80, 4), (0, 1)
STUDY = changed(
    load_study("scaling_sweep"),
    settings=["target.images=50"],
    axes=[f"source.delta={DELTAS[0]},{DELTAS[1]}", f"images={COUNTS[0]},{COUNTS[1]}"],
    fields={"seeds": list(SEEDS), "fit": None},
)
RUN = STUDY.run(Point(values={"source.delta": 0.2, "images": 80}), 1)
POINTS, KINDS = 1 + 4, len(STUDY.base.evaluations)
FRACTALS = len(DELTAS) * len(SEEDS) * 128  # 80 images are two blocks of 64, and 4 images are the first of them
DIGITS = len(SEEDS) * 64 + 1_000


def publish(store, spec, record=None):
    store.publish(spec.address, {"scores.json": b"[]"}, spec=spec, record=record or {})


def test_an_empty_store_needs_everything_once(store):
    plan = plan_study(STUDY, store)
    assert len(plan.runs) == len(plan.to_do) == POINTS * len(SEEDS)
    assert len(plan.pretrains) == 4 * len(SEEDS)
    assert len(plan.evaluates) == POINTS * len(SEEDS) * KINDS
    assert (plan.images_missing, plan.images_stored) == (FRACTALS + DIGITS, 0)
    assert plan.failed == []


def test_planning_touches_nothing(store, tmp_path):
    plan_study(STUDY, store)
    assert list(tmp_path.iterdir()) == []


def test_stages_that_runs_share_are_counted_once(store):
    tuned = changed(STUDY, axes=["evaluations.knn.neighbours=3,5"])
    plan = plan_study(tuned, store)
    assert len(plan.runs) == 2 * POINTS * len(SEEDS)  # the axis matters to the baseline too
    assert len(plan.pretrains) == 4 * len(SEEDS)  # as without the new axis
    knn = [spec for spec in plan.evaluates.values() if spec.short == "knn"]
    assert len(knn) == 2 * POINTS * len(SEEDS)
    assert len(plan.evaluates) == len(knn) + POINTS * len(SEEDS) * (KINDS - 1)


def test_operations_are_those_of_the_stages_to_do(store):
    plan = plan_study(STUDY, store)
    flops = STUDY.base.backbone.cost().training_flops
    assert plan.pretrain_flops == 8 * STUDY.base.recipe.budget_images * flops
    passes = sum(evaluation.training_images(STUDY.base.target) for evaluation in STUDY.base.evaluations)
    assert plan.evaluate_flops == POINTS * len(SEEDS) * passes * flops
    assert plan.worker_hours is None  # no speed is measured yet, and none is made up


def test_what_is_published_is_planned_no_more(store):
    publish(store, RUN.pretrain)
    publish(store, RUN.evaluates[0])
    plan = plan_study(STUDY, store)
    assert RUN.pretrain.address not in plan.pretrains
    assert len(plan.pretrains) == 7
    assert RUN.evaluates[0].address not in plan.evaluates
    (planned,) = [one for one in plan.runs if one.run == RUN]
    assert not planned.done
    assert planned.missing == tuple(spec.address for spec in RUN.evaluates[1:])
    for spec in RUN.evaluates[1:]:
        publish(store, spec)
    assert len(plan_study(STUDY, store).to_do) == POINTS * len(SEEDS) - 1


def test_a_finished_study_plans_nothing(store):
    for planned in plan_study(STUDY, store).runs:
        for spec in planned.run.evaluates:
            publish(store, spec)
    plan = plan_study(STUDY, store)
    assert all(planned.done for planned in plan.runs)
    assert not plan.to_do
    assert not plan.pretrains
    assert not plan.evaluates
    assert (plan.images_missing, plan.images_stored, plan.bytes_missing) == (0, 0, 0)


def test_a_block_that_is_stored_is_rendered_no_more(store):
    population, _ = RUN.stored(stream=False)[2]
    first, *_ = population.blocks(1_000)
    before = plan_study(STUDY, store)
    render_block(store, population, first)
    plan = plan_study(STUDY, store)
    assert plan.images_stored == first.stop - first.start == 64
    assert plan.images_missing == FRACTALS + DIGITS - 64
    assert before.bytes_missing - plan.bytes_missing == 64 * 8 * 8 * 0.5


def test_the_time_is_foretold_from_the_measured_speed(store):
    publish(store, RUN.pretrain, {"train_s": 4.0, "images_seen": 8_000, "workers": 2})
    plan = plan_study(STUDY, store)
    flops = RUN.backbone.cost().training_flops
    assert plan.flops_per_s == pytest.approx(8_000 * flops / 4 / 2)
    assert plan.worker_hours == pytest.approx((plan.pretrain_flops + plan.evaluate_flops) / (1_000 * flops) / 3_600)


@pytest.mark.parametrize(
    ("stage", "runs"),
    [
        (lambda run: run.pretrain.address, 1),
        (lambda run: run.evaluates[1].address, 1),
        (lambda run: run.stored(stream=False)[0][0].address, 2),  # both counts of this delta and seed
        (lambda run: run.stored(stream=False)[2][0].address, POINTS * len(SEEDS)),  # the test images
    ],
)
def test_a_failure_stands_in_the_way_of_every_run_that_needs_the_stage(store, stage, runs):
    store.fail(stage(RUN), {"error": "DivergedError", "lasting": True})
    plan = plan_study(STUDY, store)
    assert len(plan.failed) == runs
    assert {planned.failed for planned in plan.failed} == {stage(RUN)}
    assert len(plan.to_do) == POINTS * len(SEEDS)  # a failed run is one still to be done


def test_a_failure_that_was_made_good_counts_no_more(store):
    store.fail(RUN.pretrain.address, {"error": "RunError", "lasting": True})
    for spec in RUN.evaluates:
        store.fail(spec.address, {"error": "RunError", "lasting": True})
        publish(store, spec)
    assert plan_study(STUDY, store).failed == []


@pytest.mark.parametrize("field", ["source", "target.data"])
def test_a_file_that_is_no_image_is_refused_before_anything_starts(field, store, tmp_path):
    for number in range(10):
        (tmp_path / "broken" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "broken" / str(number % 2) / f"{number}.png").write_text("no image")
    folder = f"{field}={{kind: folder, path: {tmp_path}/broken, size_px: 8}}"
    few = ["images=4", f"target.images={10 if field == 'source' else 4}"]
    study = changed(STUDY, settings=[folder, *few], fields={"axes": []})
    with pytest.raises(DataError, match=rf"^{field}: {tmp_path}/broken/./.*png: is not an image"):
        plan_study(study, store)


def test_the_baseline_alone_renders_no_fractal(store):
    for planned in plan_study(STUDY, store).runs:
        for spec in planned.run.evaluates if planned.run.images else ():
            publish(store, spec)
    plan = plan_study(STUDY, store)
    assert [planned.point.baseline for planned in plan.to_do] == ["no pre-training"] * len(SEEDS)
    assert plan.images_missing == DIGITS
    assert not plan.pretrains


def ladder(deltas, counts, seeds):
    """A large study: so many perturbations, numbers of images and seeds."""
    axes = [f"source.delta={','.join(f'{0.001 * step:.3f}' for step in range(1, deltas + 1))}"]
    return changed(STUDY, axes=[*axes, f"images={','.join(map(str, counts))}"], fields={"seeds": list(range(seeds))})


def test_ten_thousand_runs_are_planned_in_seconds(store):
    study, begun = ladder(100, [2**step for step in range(1, 11)], 10), time.process_time()
    plan = plan_study(study, store)
    assert (len(plan.runs), len(plan.pretrains), len(plan.evaluates)) == (10_010, 10_000, 30_030)
    assert time.process_time() - begun < 15  # measured 2.9 s on a busy core; 15.5 s before runs shared their members


def test_memory_of_a_plan_is_some_kilobytes_a_run(store):
    study = ladder(20, [2, 4, 8, 16, 32], 10)
    tracemalloc.start()
    plan = plan_study(study, store)
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan.runs) == 1_010
    assert most_bytes < 20_000 * len(plan.runs)


def test_a_hundred_million_images_are_counted_and_not_listed(store):
    plan = plan_study(ladder(5, [10**6, 10**8], 20), store)
    whole = -(-(10**8) // 4_096) * 4_096  # the first blocks, which double, are together as long as one of the longest
    assert plan.images_missing == 5 * 20 * whole + 20 * 64 + 1_000
    population = next(population for population, images in plan.images.values() if images == 10**8)
    tracemalloc.start()
    assert plan_study(ladder(1, [10**8], 1), store).images_missing > 10**8
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert population.whole_blocks(10**8)[1] == whole


def test_runs_that_agree_in_a_member_share_it_and_its_populations():
    runs = [STUDY.run(Point(values={"source.delta": 0.2, "images": images}), 1) for images in COUNTS]
    assert runs[0].source is runs[1].source
    assert runs[0].pretrain.population is runs[1].pretrain.population
    assert runs[0].source is not STUDY.run(Point(values={"source.delta": 0.1, "images": 4}), 1).source
    alone = changed(STUDY, fields={}).run(Point(values={"source.delta": 0.2, "images": 80}), 1)
    assert alone == runs[0]
    assert alone.fingerprint == runs[0].fingerprint
    assert pickle.loads(pickle.dumps(runs[0])) == runs[0]
