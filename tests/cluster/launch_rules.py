"""What a file that starts a cluster must keep, as lists of faults: open doors, waste, versions that drifted.

Fields of ``ray.io/v1`` are those of KubeRay 1.6.2's API reference; its own schema is in no package index.
"""

import re

RAY_VERSION = re.compile(r"\b2\.\d+\.\d+\b")

CLUSTER = {
    "authOptions",
    "autoscalerOptions",
    "enableInTreeAutoscaling",
    "gcsFaultToleranceOptions",
    "headGroupSpec",
    "rayVersion",
    "workerGroupSpecs",
}
GROUP = {"rayStartParams", "template"}
HEAD = GROUP | {"serviceType"}
WORKER = GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}
AUTOSCALER = {"version", "idleTimeoutSeconds"}
JOB = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "entrypoint",
    "rayClusterSpec",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
}
NAME = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")


def version_faults(text, pinned):
    """Versions of Ray in a file that are not the pinned one."""
    return [f"Ray {found}" for found in sorted(set(RAY_VERSION.findall(text)) - {pinned})]


def ray_up_faults(config):
    """Faults of a configuration for ``ray up`` in a cloud."""
    types, head = config["available_node_types"], config["head_node_type"]
    faults = [f"{name} is spot" for name in types if (name == head) and is_spot(types[name]["node_config"])]
    for name, node in types.items():
        if not _image(node["node_config"]):
            faults.append(f"{name} has no image")
        if not _disk_gb(node["node_config"]):
            faults.append(f"{name} has no disk size")
        if name == head:
            continue
        if node["min_workers"] != 0:
            faults.append(f"{name} never goes")
        if not 0 < node["max_workers"] <= config["max_workers"]:
            faults.append(f"{name} has no limit")
        if not is_spot(node["node_config"]):
            faults.append(f"{name} is on demand")
    if not 0 < config["idle_timeout_minutes"] <= 10:
        faults.append("idle nodes stay")
    return faults + door_faults(config) + start_faults(config)


def door_faults(config):
    """Ports that the world can reach. Ray opens port 22 on AWS where a node type names no group of its own."""
    faults = []
    if "security_group" in config["provider"] or "0.0.0.0" in str(config):
        faults.append("opens ports")
    for name, node in config["available_node_types"].items():
        if config["provider"]["type"] == "aws" and not node["node_config"].get("SecurityGroupIds"):
            faults.append(f"{name} has no security group")
        if config["provider"]["type"] == "gcp":
            faults += [
                f"{name} has a public address"
                for interface in node["node_config"].get("networkInterfaces", [{"accessConfigs": []}])
                if "accessConfigs" in interface
            ]
    return faults


def start_faults(config):
    """Ray without a token, a dashboard that others reach, packages that nothing pins."""
    faults = []
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [line for line in config[key] if "ray start" in line]
        if len(starts) != 1 or "RAY_AUTH_MODE=token ray start" not in starts[0]:
            faults.append(f"{key} has no token")
    if not any("--dashboard-host=127.0.0.1" in line for line in config["head_start_ray_commands"]):
        faults.append("dashboard on every address")
    if config["file_mounts"].get("~/.ray/auth_token") != "~/.ray/auth_token":
        faults.append("nodes get no token")
    installs = [line for line in [*config["setup_commands"], *config["head_setup_commands"]] if "pip install" in line]
    if not installs or not all("--constraint ~/scaleback/constraints.txt" in line for line in installs):
        faults.append("packages are not pinned")
    return faults


def is_spot(node):
    """Whether a node of AWS or Google Cloud is a spot node."""
    return node.get("InstanceMarketOptions", {}).get("MarketType") == "spot" or any(
        one.get("provisioningModel") == "SPOT" for one in node.get("scheduling", [])
    )


def kuberay_faults(documents, pinned):
    """Faults of the documents of a file for KubeRay, whose last one is a RayCluster or a RayJob."""
    *others, last = documents
    faults = [f"service {one['spec'].get('type')}" for one in others if _opens(one)]
    faults += [f"{one['kind']} in the file" for one in others if one["kind"] in ("Secret", "Ingress")]
    if last["apiVersion"] != "ray.io/v1" or last["kind"] not in ("RayCluster", "RayJob"):
        faults.append(f"{last['apiVersion']} {last['kind']}")
    if not NAME.fullmatch(last["metadata"]["name"]):
        faults.append("name")
    spec = last["spec"]
    if last["kind"] == "RayJob":
        faults += _unknown(spec, JOB)
        if not spec["shutdownAfterJobFinishes"] or spec["activeDeadlineSeconds"] <= 0:
            faults.append("the cluster outlives its job")
        spec = spec["rayClusterSpec"]
    accounts = {one["metadata"]["name"] for one in others if one["kind"] == "ServiceAccount"}
    return faults + cluster_faults(spec, pinned, accounts)


def cluster_faults(spec, pinned, accounts):
    """Faults of the specification of a RayCluster."""
    faults = _unknown(spec, CLUSTER) + _unknown(spec["autoscalerOptions"], AUTOSCALER)
    if spec["rayVersion"] != pinned:
        faults.append(f"rayVersion {spec['rayVersion']}")
    if spec.get("authOptions") != {"mode": "token"}:
        faults.append("no token")
    if not spec.get("enableInTreeAutoscaling") or spec["autoscalerOptions"]["version"] != "v2":
        faults.append("no autoscaler v2")
    if not 0 < spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 600:
        faults.append("idle pods stay")
    redis = spec.get("gcsFaultToleranceOptions")
    if redis and "secretKeyRef" not in redis["redisPassword"].get("valueFrom", {}):
        faults.append("Redis without a secret")
    head = spec["headGroupSpec"]
    faults += _unknown(head, HEAD)
    if head.get("serviceType", "ClusterIP") != "ClusterIP":
        faults.append(f"service {head['serviceType']}")
    pod = head["template"]["spec"]
    if pod.get("tolerations") or pod.get("nodeSelector") or "DoesNotExist" not in str(pod.get("affinity")):
        faults.append("the head is spot")
    faults += _pod_faults("head", head, pinned, accounts)
    for group in spec["workerGroupSpecs"]:
        faults += _unknown(group, WORKER) + _pod_faults(group["groupName"], group, pinned, accounts)
        if (group["replicas"], group["minReplicas"]) != (0, 0) or not 0 < group["maxReplicas"] < 100:
            faults.append(f"{group['groupName']} never goes")
        spot = set(group["template"]["spec"].get("nodeSelector", {}))
        if not spot or spot - {one["key"] for one in group["template"]["spec"].get("tolerations", [])}:
            faults.append(f"{group['groupName']} is on demand")
    return faults


def _pod_faults(name, group, pinned, accounts):
    pod, started = group["template"]["spec"], group["rayStartParams"]
    (container,) = pod["containers"]
    has = container["resources"]["limits"]
    faults = []
    if container["resources"]["requests"] != has:
        faults.append(f"{name} is promised less than its limits")
    asked = {"num-cpus": has["cpu"], "num-gpus": has.get("nvidia.com/gpu")}
    if name == "head":
        asked["num-cpus"] = "0"
    elif not asked["num-gpus"]:
        asked["resources"] = f'"{{\\"renders\\": {has["cpu"]}}}"'  # quoted twice, as KubeRay wants it
    if started != {key: value for key, value in asked.items() if value}:
        faults.append(f"{name} says {started}")
    if container["image"].rpartition(":")[2] != f"{pinned}-{'cuda' if asked['num-gpus'] else 'cpu'}":
        faults.append(f"{name} runs {container['image']}")
    if pod.get("serviceAccountName") not in accounts:
        faults.append(f"{name} has no account")
    if pod.get("restartPolicy") != "Never":  # KubeRay's rule for autoscaler v2
        faults.append(f"{name} restarts")
    # KubeRay sets these itself, from secrets; a value in the file would be in the clear.
    faults += [f"{name} sets {one['name']}" for one in container.get("env", []) if "secretKeyRef" not in str(one)]
    return faults


def _opens(document):
    return document["kind"] == "Service" and document["spec"].get("type", "ClusterIP") != "ClusterIP"


def _unknown(mapping, known):
    return [f"unknown field {name}" for name in mapping if name not in known]


def _image(node):
    disks = node.get("disks", [{}])
    image = node.get("ImageId") or disks[0].get("initializeParams", {}).get("sourceImage", "")
    return image and "latest" not in image and "/family/" not in image


def _disk_gb(node):
    if "BlockDeviceMappings" in node:
        return node["BlockDeviceMappings"][0]["Ebs"].get("VolumeSize")
    return node.get("disks", [{}])[0].get("initializeParams", {}).get("diskSizeGb")
