"""The files of ``clusters/launch``: Ray's own code takes them, no door is open, and versions are those of constraints.

No cloud and no Kubernetes is asked. ``launch_rules`` holds the rules; copies with one thing wrong show that they bite.
"""

import copy
import os
import re
import tomllib

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.runtime_env import RuntimeEnv

from scaleback.cluster.asks import Ask
from scaleback.cluster.placement import FOLDER, LAUNCH, load_placement
from tests.cluster.launch_rules import is_spot, kuberay_faults, ray_up_faults, version_faults

ROOT = FOLDER.parent
CLOUDS = ("aws", "gcp")
RAY_UP = (*CLOUDS, "own-machines")
KUBERAY = ("kuberay-cluster", "kuberay-job")
FILES = sorted(path for path in LAUNCH.iterdir() if path.is_file())
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
GROWS = load_placement("cpu_render_gpu_train", {})


def documents(name):
    return list(yaml.safe_load_all((LAUNCH / f"{name}.yaml").read_text()))


def ray_cluster(name):
    """The RayCluster of a file for KubeRay, as the operator would make it."""
    last = documents(name)[-1]
    spec = last["spec"].get("rayClusterSpec", last["spec"])
    return {"kind": "RayCluster", "metadata": {"name": "scaleback", "namespace": "default"}, "spec": spec}


def autoscaling(name):
    """The configuration that Ray's autoscaler makes of a file."""
    if name in KUBERAY:
        config = _derive_autoscaling_config_from_ray_cr(ray_cluster(name))
    else:
        (plain,) = documents(name)
        config = prepare_config(plain)
    validate_config(config)
    return config


def scheduled(config, asked):
    """What Ray's autoscaler, asked offline, does with an empty cluster for what tasks ask."""
    return ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=AutoscalingConfig(config, skip_content_hash=True).get_node_type_configs(),
            max_num_nodes=config["max_workers"] + 1,
            resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(one) for one in asked]),
        )
    )


def launched(name, asked):
    """Workers by their kind (cpu, gpu) that the autoscaler starts."""
    reply = scheduled(autoscaling(name), asked)
    assert not reply.infeasible_resource_requests
    return {one.instance_type[:3]: one.count for one in reply.to_launch}


def changed(value, path, new):
    """A copy with one thing else at a path of keys."""
    value = copy.deepcopy(value)
    *way, last = path
    inner = value
    for key in way:
        inner = inner[key]
    inner[last] = new
    return value


def test_every_file_is_known_here_and_in_the_readme():
    others = {"Dockerfile", "Dockerfile.dockerignore", "runtime-env.yaml"}
    assert {path.name for path in FILES} == {f"{name}.yaml" for name in (*RAY_UP, *KUBERAY)} | others
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in FILES if path.suffix != ".dockerignore" and path.name not in readme] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_versions_are_the_pinned_ones(path):
    text = path.read_text()
    assert version_faults(text, PINNED["ray"]) == []
    assert version_faults(text + "\nray==2.59.1", PINNED["ray"]) == ["Ray 2.59.1"]
    assert "FILL-IN" not in text or "To fill in" in text


@pytest.mark.parametrize("name", [*RAY_UP, *KUBERAY])
def test_ray_s_schema_takes_it(name):
    config = autoscaling(name)
    with pytest.raises(Exception, match="surprise"):
        validate_config({**config, "surprise": 1})


@pytest.mark.parametrize("name", [*CLOUDS, *KUBERAY])
def test_ray_s_autoscaler_sees_a_head_without_cores_and_two_kinds_of_workers(name):
    config = autoscaling(name)
    types = AutoscalingConfig(config, skip_content_hash=True).get_node_type_configs()
    head = types.pop(config["head_node_type"])
    assert head.resources["CPU"] == 0
    cpu, gpu = (types[kind] for kind in sorted(types))
    assert (cpu.min_worker_nodes, gpu.min_worker_nodes) == (0, 0)
    assert "GPU" not in cpu.resources
    # A node holds one run of the placement, and there may be as many nodes as runs.
    assert gpu.resources["GPU"] == GROWS.gpus_per_worker
    assert gpu.resources["CPU"] >= GROWS.cpus_per_worker
    assert gpu.max_worker_nodes == GROWS.runs_at_once


@pytest.mark.parametrize("name", [*CLOUDS, *KUBERAY])
def test_rendering_starts_nodes_without_gpus_and_each_run_one_with(name):
    draw, run = Ask.renderer(GROWS).bundle, Ask.worker(GROWS).bundle
    assert (draw["CPU"], run["GPU"]) == (1, 1)
    assert launched(name, [draw]) == {"cpu": 1}
    assert launched(name, [draw] * 40) == {"cpu": 3}
    assert launched(name, [run] * GROWS.runs_at_once) == {"gpu": GROWS.runs_at_once}
    assert launched(name, [draw] * 30 + [run]) == {"cpu": 2, "gpu": 1}
    reply = scheduled(autoscaling(name), [draw] * 999)
    assert {one.instance_type[:3] for one in reply.to_launch} == {"cpu"}, "a GPU node never renders"


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_s_cluster_is_closed_pinned_and_goes_when_idle(name):
    assert ray_up_faults(prepare_config(documents(name)[0])) == []


@pytest.mark.parametrize(
    ("name", "path", "new", "fault"),
    [
        ("aws", ("available_node_types", "gpu_train", "min_workers"), 1, "gpu_train never goes"),
        ("aws", ("available_node_types", "cpu_render", "max_workers"), 99, "cpu_render has no limit"),
        ("aws", ("available_node_types", "gpu_train", "node_config", "SecurityGroupIds"), [], "no security group"),
        ("aws", ("available_node_types", "head", "node_config", "ImageId"), "latest_dlami", "has no image"),
        ("aws", ("available_node_types", "head", "node_config", "BlockDeviceMappings", 0, "Ebs"), {}, "no disk size"),
        ("gcp", ("available_node_types", "head", "node_config", "scheduling"), [{"provisioningModel": "SPOT"}], "spot"),
        ("gcp", ("available_node_types", "gpu_train", "node_config", "scheduling"), [], "gpu_train is on demand"),
        (
            "gcp",
            ("available_node_types", "head", "node_config", "networkInterfaces", 0, "accessConfigs"),
            [{"type": "ONE_TO_ONE_NAT"}],
            "head has a public address",
        ),
        ("gcp", ("idle_timeout_minutes",), 600, "idle nodes stay"),
        ("aws", ("provider", "security_group"), {"GroupName": "open"}, "opens ports"),
        ("aws", ("head_start_ray_commands", -1), "ray start --head", "head_start_ray_commands has no token"),
        ("aws", ("worker_start_ray_commands", -1), "ray start", "worker_start_ray_commands has no token"),
        ("aws", ("file_mounts",), {}, "nodes get no token"),
        ("aws", ("setup_commands",), ["pip install ray"], "packages are not pinned"),
    ],
)
def test_a_cloud_s_cluster_with_one_thing_wrong_is_found(name, path, new, fault):
    found = ray_up_faults(changed(prepare_config(documents(name)[0]), path, new))
    assert any(fault in one for one in found), found


def test_defaults_of_ray_would_open_the_dashboard_and_have_no_token():
    (plain,) = documents("aws")
    del plain["head_start_ray_commands"]
    assert ray_up_faults(prepare_config(plain)) == [
        "opens ports",
        "head_start_ray_commands has no token",
        "dashboard on every address",
    ]


@pytest.mark.parametrize(
    "key", ["file_mounts", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands"]
)
def test_ray_up_does_the_same_everywhere(key):
    assert documents("aws")[0][key] == documents("gcp")[0][key] == documents("own-machines")[0][key]


def test_what_ray_up_copies_is_there():
    local = [path for path in documents("aws")[0]["file_mounts"].values() if not path.startswith("~")]
    assert {"pyproject.toml", "constraints.txt", "platform"} == {path for path in local if (ROOT / path).exists()}


def test_own_machines_all_join_and_none_is_spot():
    config = prepare_config(documents("own-machines")[0])
    (node,) = config["available_node_types"].values()
    assert node["min_workers"] == node["max_workers"] == len(config["provider"]["worker_ips"])
    assert not is_spot(node["node_config"])
    # Why not fewer: of a machine that has not joined, the autoscaler does not know that it has a core.
    node["min_workers"] = 0
    del config["auth"]["ssh_private_key"]
    reply = scheduled(config, [{"CPU": 1}])
    assert reply.to_launch == []
    assert len(reply.infeasible_resource_requests) == 1


@pytest.mark.parametrize("name", KUBERAY)
def test_a_cluster_on_kubernetes_is_closed_pinned_and_goes_when_idle(name):
    assert kuberay_faults(documents(name), PINNED["ray"]) == []


@pytest.mark.parametrize(
    ("path", "new", "fault"),
    [
        ((-1, "apiVersion"), "ray.io/v1alpha1", "ray.io/v1alpha1"),
        ((-1, "spec", "rayVersion"), "2.59.0", "rayVersion 2.59.0"),
        ((-1, "spec", "autoscaling"), True, "unknown field autoscaling"),
        ((-1, "spec", "authOptions"), {"mode": "disabled"}, "no token"),
        ((-1, "spec", "autoscalerOptions", "version"), "v1", "no autoscaler v2"),
        ((-1, "spec", "autoscalerOptions", "idleTimeoutSeconds"), 86_400, "idle pods stay"),
        ((-1, "spec", "gcsFaultToleranceOptions", "redisPassword"), {"value": "clear"}, "Redis without a secret"),
        ((-1, "spec", "headGroupSpec", "serviceType"), "LoadBalancer", "service LoadBalancer"),
        ((1, "spec", "type"), "NodePort", "service NodePort"),
        ((-1, "spec", "headGroupSpec", "template", "spec", "affinity"), {}, "the head is spot"),
        ((-1, "spec", "headGroupSpec", "rayStartParams"), {}, "head says"),
        ((-1, "spec", "workerGroupSpecs", 0, "rayStartParams", "num-cpus"), "64", "cpu-render says"),
        ((-1, "spec", "workerGroupSpecs", 1, "rayStartParams"), {"num-cpus": "7"}, "gpu-train says"),
        ((-1, "spec", "workerGroupSpecs", 0, "minReplicas"), 1, "cpu-render never goes"),
        ((-1, "spec", "workerGroupSpecs", 1, "template", "spec", "nodeSelector"), {}, "gpu-train is on demand"),
        ((-1, "spec", "workerGroupSpecs", 1, "template", "spec", "tolerations"), [], "gpu-train is on demand"),
        ((-1, "spec", "workerGroupSpecs", 0, "template", "spec", "restartPolicy"), "Always", "cpu-render restarts"),
        ((-1, "spec", "workerGroupSpecs", 0, "template", "spec", "serviceAccountName"), "default", "no account"),
        (
            (-1, "spec", "workerGroupSpecs", 1, "template", "spec", "containers", 0, "image"),
            "registry.example.com/scaleback:2.60.0-cpu",
            "gpu-train runs",
        ),
        (
            (-1, "spec", "headGroupSpec", "template", "spec", "containers", 0, "env"),
            [{"name": "RAY_AUTH_TOKEN", "value": "clear"}],
            "head sets RAY_AUTH_TOKEN",
        ),
    ],
)
def test_a_cluster_on_kubernetes_with_one_thing_wrong_is_found(path, new, fault):
    found = kuberay_faults(changed(documents("kuberay-cluster"), path, new), PINNED["ray"])
    assert any(fault in one for one in found), found


def test_both_files_for_kubernetes_start_the_same_pods():
    cluster, job = (ray_cluster(name)["spec"] for name in KUBERAY)
    assert {"gcsFaultToleranceOptions"} == cluster.keys() ^ job.keys()
    assert all(cluster[key] == job[key] for key in job)


def test_redis_takes_its_password_from_the_secret_that_the_head_reads():
    redis = next(one for one in documents("kuberay-cluster") if one["kind"] == "StatefulSet")
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    options = documents("kuberay-cluster")[-1]["spec"]["gcsFaultToleranceOptions"]
    (password,) = container["env"]
    assert password["valueFrom"] == options["redisPassword"]["valueFrom"]
    service = next(one for one in documents("kuberay-cluster") if one["kind"] == "Service")
    assert options["redisAddress"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert service["spec"]["selector"].items() <= redis["spec"]["template"]["metadata"]["labels"].items()


def test_the_job_runs_a_study_that_is_in_the_image():
    python, script, *options = documents("kuberay-job")[-1]["spec"]["entrypoint"].split()
    image = (LAUNCH / "Dockerfile").read_text()
    (home,) = re.findall(r"^WORKDIR (.*)$", image, re.MULTILINE)
    assert python == "python"
    inside = os.path.relpath(script, home)
    assert (ROOT / inside).is_file()
    assert f"COPY {inside.split('/')[0]} " in image
    assert options == ["--placement", "cpu_render_gpu_train", "--storage", GROWS.storage]


def test_the_image_copies_what_is_there_and_its_python_is_one_that_the_project_takes():
    image = (LAUNCH / "Dockerfile").read_text()
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", image, re.MULTILINE) for word in line.split()]
    assert {f"!{name}" for name in copied} == {line for line in ignored if line.startswith("!")}
    assert [name for name in copied if not (ROOT / name).exists()] == []
    (python,) = re.findall(r"^FROM python:3\.(\d+)-slim-bookworm$", image, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert int(python) >= int(project["requires-python"].removeprefix(">=3."))
    installs = re.findall(r"pip install.*", image)
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)
    assert f":{PINNED['ray']}-cpu" in image
    assert f":{PINNED['ray']}-cuda" in image


def test_the_runtime_environment_is_one_for_ray_and_holds_no_variable():
    (plain,) = documents("runtime-env")
    assert plain.pop("working_dir") == "."  # Ray takes a folder only in a job, and uploads it
    environment = RuntimeEnv(**plain)
    assert environment.env_vars() == {}
    folder = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
    assert environment["pip"]["packages"] == [f"--constraint {folder}/constraints.txt", folder]
    assert f"Ray {PINNED['ray']}" in (LAUNCH / "runtime-env.yaml").read_text()
