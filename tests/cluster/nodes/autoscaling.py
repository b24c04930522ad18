"""A cluster that grows: Ray's own autoscaler, and a provider whose machines are raylets beside the head's."""

from scaleback.core.plain import to_yaml

HEAD_ID = "f" * 51 + "00000"
"""The id by which Ray's fake provider knows the head."""
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
"""Of a cluster file, none of which this provider runs; Ray asks for their lists all the same."""
ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",  # what `ray up` and KubeRay use
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
}


def configuration(gcs_address, node_types, idle_minutes):
    """What `ray start --autoscaling-config` reads.

    Args:
        gcs_address: of the head.
        node_types: a name to (resources of one such node, most of them).
        idle_minutes: how long a node may be idle.
    """
    provider = {
        # Named by its module, since the short name reads a file that Ray's wheel lacks.
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "head_node_id": HEAD_ID,
        "gcs_address": gcs_address,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    workers = {
        name: {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": most}
        for name, (resources, most) in node_types.items()
    }
    head = {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    return to_yaml(
        {
            "cluster_name": "growing",
            "max_workers": sum(most for _, most in node_types.values()),
            "idle_timeout_minutes": idle_minutes,
            "upscaling_speed": 100,
            "provider": provider,
            "available_node_types": {"ray.head.default": head, **workers},
            "head_node_type": "ray.head.default",
            "file_mounts": {},
            "cluster_synced_files": [],
            **{f"{what}_commands": [] for what in COMMANDS},
        }
    )
