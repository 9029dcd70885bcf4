"""The cluster file against Ray's own validator, and against what that misses."""

import copy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_accepts_it(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


@pytest.mark.filterwarnings("ignore")
def test_ray_would_refuse_a_typo(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match="worker_node"):
        validate_config(prepare_config({**config, "worker_node": 3}))


def test_what_the_validator_misses(config):
    assert config["provider"]["region"]
    for node in config["available_node_types"].values():
        assert set(node["node_config"]) <= {"InstanceType", "InstanceMarketOptions", "ImageId", "BlockDeviceMappings"}
        assert set(node["resources"]) <= {"CPU", "GPU"}
        assert "24.04" in node["node_config"]["ImageId"]  # older ones come with a Python that is too old
    (folder,) = config["file_mounts"]
    assert config["file_mounts"][folder] == "."
    assert folder == f"/home/{config['auth']['ssh_user']}/depth-trainability"
    install = config["setup_commands"][-1]
    assert install.startswith("cd ~/depth-trainability && python3 -m venv .venv")
    assert "--constraint constraints.txt" in install
    for start in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert all("~/depth-trainability/.venv/bin/ray" in command for command in start)
        assert any("RAY_memory_monitor_refresh_ms=0" in command for command in start)
    assert config["available_node_types"]["head"]["resources"]["CPU"] == 0
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])
