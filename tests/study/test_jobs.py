"""The studies in ``jobs/``: each one plans, and every command that its docstring shows is one that it takes."""

import ast
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from scaleback.cli import main
from scaleback.core import seeds
from scaleback.objectives import OBJECTIVE_PRESETS
from scaleback.pretrain.run import WEIGHTS, run_pretrain
from scaleback.pretrain.world import World
from scaleback.recipes import PRETRAIN_RECIPES
from scaleback.sources.named import FASHION_FOLDER
from scaleback.study.files import JOBS, load_study, study_from_yaml, study_to_yaml

STUDIES = [path.stem for path in sorted(JOBS.glob("*.py")) if "\nSTUDY = " in path.read_text()]


def commands(job):
    """The arguments of each command in the docstring of a job."""
    text = ast.get_docstring(ast.parse((JOBS / f"{job}.py").read_text()))
    words = [shlex.split(line) for line in text.splitlines() if f"python jobs/{job}.py" in line]
    return [line[2:] for line in words]


SHOWN = [(job, words) for job in STUDIES for words in commands(job)]


@pytest.fixture(params=STUDIES)
def job(request):
    return request.param


def test_a_job_is_a_study_of_its_own_name_whose_runs_differ(job):
    study = load_study(job)
    assert study.name == job.replace("_", "-")
    runs = [study.run(point, seed) for point in study.points() for seed in study.seeds]
    assert len({run.fingerprint for run in runs}) == len(runs)
    assert study_from_yaml(study_to_yaml(study), "x.yaml") == study


@pytest.mark.parametrize(("job", "words"), SHOWN, ids=[" ".join([job, *words]) for job, words in SHOWN])
def test_what_a_docstring_shows_can_be_planned(job, words, tmp_path, monkeypatch, capsys):
    of_fashion = "fashion_mnist" in words or (job == "compare_methods" and "data=digits" not in words)
    if of_fashion and not Path(FASHION_FOLDER).is_dir():
        pytest.skip("the authors' files of Fashion-MNIST are not on this machine")
    monkeypatch.chdir(tmp_path)
    assert main(words if words[:1] == ["plan"] else ["plan", *words], study=load_study(job).plain()) == 0
    said = capsys.readouterr()
    assert " runs, 0 done, 0 failed" in said.out
    assert said.err == ""
    assert list(tmp_path.iterdir()) == []


def test_each_rung_of_idmm_adds_one_ingredient_to_those_below_it():
    rungs = points("idmm_ladder", "up_to")
    seen = {
        name: (
            run.objective.smoothing,
            run.recipe.views[-1].size_px,
            run.objective.view_augmentations,
            run.objective.cutmix,
        )
        for name, run in rungs.items()
    }
    assert seen == {
        "instance": (0.0, None, (0,), 0.0),
        "smoothing": (0.1, None, (0,), 0.0),
        "small": (0.1, 12, (0,), 0.0),
        "crops": (0.1, 12, (0, 0, 1, 1), 0.0),
        "cutmix": (0.1, 12, (0, 0, 1, 1), 0.5),
    }
    # The last is IDMM as its small preset has it, but for the size of its views.
    whole = rungs["cutmix"].recipe.replace({"views.0.size_px": None, "views.1.size_px": None})
    assert rungs["cutmix"].objective == OBJECTIVE_PRESETS["idmm-small"]
    assert whole.views == PRETRAIN_RECIPES["idmm-small"].views


def test_rungs_of_idmm_get_the_same_operations():
    flops = {
        name: run.pretrain.sized_recipe.budget_images * run.pretrain.flops_an_image
        for name, run in points("idmm_ladder", "up_to").items()
    }
    budget = load_study("idmm_ladder").base.recipe.budget_flops
    assert all(0.999 * budget < used <= budget for used in flops.values())


def test_moco_s_start_is_what_moco_builds_and_not_trained(store):
    spec = points("compare_methods", "method", data="digits")["moco-v3-start"].pretrain
    manifest = run_pretrain(spec, store, World(), stream=True)
    kept = load(store.read(manifest, WEIGHTS))
    plain = spec.backbone.build(seeds.key("backbone", spec.seed) >> 1)
    untrained = {name: weight.clone() for name, weight in plain.state_dict().items()}
    generator = torch.Generator().manual_seed(seeds.key("head", spec.seed) >> 1)
    start = spec.objective.build(plain, width=64, classes=spec.classes, generator=generator).backbone.state_dict()
    assert kept.keys() == start.keys()
    assert all(torch.equal(kept[name], start[name]) for name in kept)
    assert any(not torch.equal(kept[name], untrained[name]) for name in kept)


def points(job, axis, **others):
    """The run of seed 0 at each value of an axis."""
    study = load_study(job)
    return {
        point.values[axis]: study.run(point, 0)
        for point in study.points()
        if not point.baseline and others.items() <= point.values.items()
    }
