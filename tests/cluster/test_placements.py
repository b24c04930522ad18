"""The files of ``clusters/``: each loads by its name, the schema is the model's, and what starts a cluster is none."""

import json

import pytest

from scaleback.cli import main
from scaleback.cluster.placement import FOLDER, LAUNCH, Placement, load_placement
from scaleback.core.errors import InputError

PLACEMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SCHEMA = FOLDER / "placement.schema.json"
REWRITE = (
    "PYTHONPATH=platform .venv/bin/python -c 'import json; from scaleback.cluster.placement import Placement; "
    f"print(json.dumps(Placement.model_json_schema(), indent=2))' > clusters/{SCHEMA.name}"
)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_a_placement_loads_by_name_and_overrides_win(name):
    assert load_placement(name, {}) == load_placement(str(FOLDER / f"{name}.yaml"), {})
    assert load_placement(name, {"storage": "elsewhere"}).storage == "elsewhere"


def test_placements_say_what_they_are_named_for():
    laptop, gpu, pool, grows = (
        load_placement(name, {}) for name in ("laptop", "one_gpu", "gpu_pool", "cpu_render_gpu_train")
    )
    assert laptop == Placement(), "the default, also where there is no repository"
    assert (gpu.address, gpu.gpus_per_worker) == ("local", 1)
    assert (pool.address, pool.gpus_per_worker, pool.streams, pool.autoscaling) == ("auto", 1, True, False)
    assert (grows.address, grows.gpus_per_worker, grows.streams, grows.autoscaling) == ("auto", 1, False, True)
    # Nodes write to it from many machines, and no bucket has such a name.
    assert pool.storage == grows.storage == "s3://FILL-IN/scaleback"
    # An empty cluster has no places to count, and would get one run at a time.
    assert grows.runs_at_once is not None


def test_the_schema_is_the_model_s():
    assert json.loads(SCHEMA.read_text()) == Placement.model_json_schema(), REWRITE


def test_every_placement_names_its_schema_for_editors():
    first = {name: (FOLDER / f"{name}.yaml").read_text().splitlines()[0] for name in PLACEMENTS}
    assert set(first.values()) == {f"# yaml-language-server: $schema={SCHEMA.name}"}


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_starts_a_cluster_is_no_placement(path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    for name in (path.stem, f"launch/{path.stem}", str(path), f"clusters/launch/{path.name}"):
        with pytest.raises(InputError, match="only start a cluster") as refused:
            load_placement(name, {})
        assert f"must be one of {', '.join(PLACEMENTS)} or a file like them" in str(refused.value)
    assert main(["plan", "scaling_sweep", "--placement", path.stem, "--storage", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"; got '{path.stem}'")
    assert list(tmp_path.iterdir()) == []
