"""Studies as a user starts them beside the head of some machines."""

import json
import sys

from scaleback.cluster.placement import Placement
from scaleback.core.plain import to_yaml
from scaleback.study.files import study_to_yaml

WAIT_S = 300
STAGES = {"render": "ray::FlatMap(_RenderBlocks)", "pretrain": "ray::pretrain ", "evaluate": "ray::evaluate "}
"""What Ray calls the process of a stage."""


def alone_in(study, changes, measures):
    """A study of one run."""
    base = study.base.replace(changes).plain()
    whole = {**study.plain(), "base": base, "axes": [], "seeds": [0], "baseline": False, "measures": measures}
    return type(study).parse(whole)


def joined(machines, **fields):
    """A placement on these machines: nodes die, and nothing that was saved is lost."""
    return Placement(address=machines.address, retries=5, checkpoint_every_s=0.2, **fields)


def driver(machines, study, folder, placement, storage=None):
    """The command that a user would give on the head."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(study_to_yaml(study))
    (folder / "placement.yaml").write_text(to_yaml(placement.plain()))
    words = ["run", folder / "study.yaml", "--placement", folder / "placement.yaml"]
    return machines.command(
        sys.executable, "-m", "scaleback.cli", *words, "--storage", storage or folder / "store", "--json"
    )


def scored(store):
    """Records of the evaluations that are there, by address; checkpoints lie below what they will be."""
    return {
        address: store.manifest(address).record for address in store.addresses("evaluate") if "/step-" not in address
    }


def facts(process):
    """What a driver prints at its end."""
    said, told = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, told[-2_000:]
    return json.loads(said.splitlines()[-1])
