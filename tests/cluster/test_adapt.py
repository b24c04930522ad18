"""What a generator learns on Ray, what it draws there, and what is trained on that: against the same without Ray."""

import json

import numpy as np
import pytest

import scaleback.cluster.learn
from scaleback.adapt.run import learn
from scaleback.cluster.group import train_in_group
from scaleback.cluster.learn import learn_all
from scaleback.cluster.progress import Progress
from scaleback.cluster.render import render
from scaleback.cluster.search import run_study
from scaleback.cluster.stages import complete
from scaleback.core.store import Store
from scaleback.evaluations.run import SCORES, run_evaluate
from scaleback.pretrain.run import CURVE
from scaleback.pretrain.world import World
from scaleback.sources.diffusing.opened import JUDGE, LORA, PARTS, WEIGHTS
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.named import Digits
from scaleback.sources.population import Population, load_images, missing_blocks, render_block
from scaleback.study.plan import plan_study
from scaleback.study.study import Study

pytestmark = pytest.mark.usefixtures("shared_ray")

MADE = 40


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """Classifies by real and drawn images, without pre-training."""
    source = Diffusion.example(tmp_path_factory.mktemp("example"))
    recipe = {"preset": "small", "budget_images": 500, "warmup_images": 50}
    return tiny.base.replace(
        {
            "images": 0,
            "target": {
                "data": Digits().plain(),
                "images": 20,
                "synthetic": {"source": source.plain(), "images": MADE},
            },
            "evaluations": [{"kind": "classifier", "recipe": recipe}, {"kind": "quality"}],
        }
    )


@pytest.fixture(scope="module")
def done(run, shared_ray, placement, tmp_path_factory):
    """A store in which Ray has completed it."""
    store, rows = Store(tmp_path_factory.mktemp("ray")), []
    complete(run, store, placement, rows.append)
    assert {row["stage"] for row in rows} == {"generator", "adapt", "evaluate"}
    return store


def test_it_equals_the_run_without_ray_and_is_done_once(run, done, placement, tmp_path):
    complete(run, done, placement, lambda row: pytest.fail("computed again"))
    alone = Store(tmp_path)
    learn(run.target.synthetic.source, run.seed, alone)
    for stage in run.learnt:
        ours, theirs = (store.manifest(stage.address, stage).files for store in (done, alone))
        weights = ours.keys() & {WEIGHTS, LORA, PARTS}
        assert weights
        assert {name: ours[name] for name in weights} == {name: theirs[name] for name in weights}
    for population, images in run.stored(stream=False):
        for block in missing_blocks(alone, population, images):
            render_block(alone, population, block)
    for spec in run.evaluates:
        manifest = run_evaluate(spec, alone, World())
        assert alone.read(manifest, SCORES) == done.read(done.manifest(spec.address, spec), SCORES)


def test_two_workers_adapt_as_one(run, done, placement, tmp_path):
    trained, adapted = run.learnt
    pair = Store(tmp_path)
    for name in done.files(""):
        if name.startswith((trained.address, adapted.population.address)):
            pair.put(name, done.get(name))
    train_in_group(adapted, pair, placement.model_copy(update={"workers": 2}))
    manifest = pair.manifest(adapted.address, adapted)
    assert manifest.record["workers"] == 2
    curves = [json.loads(store.read(store.manifest(adapted.address, adapted), CURVE)) for store in (pair, done)]
    np.testing.assert_allclose(*([row["loss"] for row in curve] for curve in curves), rtol=1e-4)


def test_drawn_images_have_the_labels_of_those_they_are_drawn_after(run, done):
    source = run.target.synthetic.source
    real = load_images(done, Population.of(source.real, run.seed), source.real_images)
    drawn = load_images(done, Population.of(source, run.seed), MADE)
    assert drawn.label_N.tolist() == np.resize(real.label_N, MADE).tolist()


def test_a_study_learns_first_and_a_generator_that_fails_stops_no_other(run, tiny, placement, tmp_path):
    field = "target.synthetic.source.adaptation.schedule.lr"
    study = Study.parse(
        {
            **tiny.plain(),
            "base": run.replace({"evaluations": ["knn"]}).plain(),
            "axes": [{"kind": "grid", "field": field, "values": [1e-3, 1e30]}],
            "seeds": [1],
            "measures": [{"evaluation": "knn"}],
        }
    )
    store = Store(tmp_path)
    outcome = run_study(study, store, placement, Progress(quiet=True))
    (line,) = outcome.failed
    assert "DivergedError" in line
    assert outcome.started == 3
    found = {run.point.label: run.done for run in plan_study(study, store).runs}
    assert found == {"real images alone": True, f"{field}=0.001": True, f"{field}=1e+30": False}


def test_a_judge_learns_beside_the_generator_and_steers_as_without_ray(run, placement, tmp_path, monkeypatch):
    recipe = {"preset": "small", "budget_images": 200, "warmup_images": 0}
    run = run.replace({"target.synthetic.source.steering": {"scale": 2.0, "recipe": recipe}})
    trained, adapted, judged = run.learnt
    waves = []

    def seen(store, wanted, **given):
        waves.append([population for population, _ in wanted])
        return render(store, wanted, **given)

    monkeypatch.setattr(scaleback.cluster.learn, "render", seen)
    ours, theirs = Store(tmp_path / "ray"), Store(tmp_path / "alone")
    learn_all([run], ours, placement, Progress(quiet=True), retry=False)
    assert waves == [[trained.population, judged.population], [adapted.population]]
    complete(run, ours, placement, lambda row: waves.append(row["stage"]))
    assert set(waves[2:]) == {"evaluate"}
    source = run.target.synthetic.source
    learn(source, run.seed, theirs)
    weights = [store.read(store.manifest(judged.address, judged), JUDGE) for store in (ours, theirs)]
    assert weights[0] == weights[1]
    drawn = load_images(ours, Population.of(source, run.seed), MADE)
    alone = source.open_with(run.seed, theirs)(np.arange(MADE))
    assert (drawn.image_NHWC == alone.image_BHWC).all()
