"""The cluster files against Ray's own validator, and against what that misses.

AWS's part is checked with the model of its interface that botocore carries.
"""

import copy
import re
import shlex
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FILES = ("ray_cluster.yaml", "ray_cluster_onprem.yaml")
COMMANDS = ("setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
            "worker_start_ray_commands", "initialization_commands")  # fmt: skip
MOUNTED = "~/depth-trainability/"
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


def load(name):
    return yaml.safe_load((ROOT / name).read_text())


def commands_of(config, kinds=COMMANDS):
    return [command for kind in kinds for command in config.get(kind, [])]


def ray_validates(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_it(name):
    ray_validates(load(name))


@pytest.mark.parametrize("name", FILES)
def test_ray_would_refuse_a_typo(name):
    with pytest.raises(Exception, match="worker_node"):
        ray_validates({**load(name), "worker_node": 3})


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_runs_comes_from_rays_defaults(name):
    """Ray fills in what is missing: an installation of a nightly wheel, a pip that Ubuntu's Python refuses."""
    config = load(name)
    assert set(COMMANDS) - {"initialization_commands"} <= set(config)
    prepared = ray_validates(config)
    ours = commands_of(config)
    assert all(command in ours for command in commands_of(prepared))


@pytest.mark.parametrize("name", FILES)
def test_commands_are_bash_and_name_what_exists(name):
    for command in commands_of(load(name)):
        # Ray gives commands to bash; what a person fills in stands in angle brackets.
        filled = re.sub(r"<[^>]+>", "filled-in", command)
        subprocess.run(["bash", "-n"], input=filled, text=True, check=True, timeout=20)
        for path in re.findall(rf"{re.escape(MOUNTED)}(\S+)", command):
            assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("script", sorted((ROOT / "cluster").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_strict_bash(script):
    subprocess.run(["bash", "-n", script], check=True, timeout=20)
    assert "set -euo pipefail" in script.read_text()


@pytest.mark.parametrize("script", ["mount_shared.sh", "install_tracking_server.sh", "tracking_server.sh"])
def test_scripts_say_what_is_missing_and_do_nothing(script, tmp_path):
    done = subprocess.run(
        ["bash", ROOT / "cluster" / script], capture_output=True, text=True, timeout=20, check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "give " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mount(tmp_path):
    """Run the script with an export; what it asks of sudo is noted, and only folders and fstab are made."""
    shared, fstab = tmp_path / "shared", tmp_path / "fstab"
    fstab.write_text("LABEL=root / ext4 defaults 0 1\n")
    sudo = tmp_path / "bin" / "sudo"
    sudo.parent.mkdir()
    sudo.write_text(
        '#!/bin/bash\necho "$*" >> "$HOME/asked"\n'
        'case $1 in mkdir | sed | tee) exec "${@/#\\/etc\\/fstab/$HOME/fstab}" ;; esac\n'
    )
    sudo.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{sudo.parent}:/usr/bin:/bin"}

    def mount(export):
        command = ["bash", ROOT / "cluster" / "mount_shared.sh", export, shared]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)

    return mount


@pytest.mark.parametrize(
    ("export", "low_port"), [("fs-1.efs.us-east-1.amazonaws.com:/", False), ("192.0.2.1:/s", True)]
)
def test_the_share_is_mounted_at_every_start_of_a_node(mount, tmp_path, export, low_port):
    for _ in range(2):
        done = mount(export)
        assert (done.returncode, done.stderr) == (0, "")
    _, line = (tmp_path / "fstab").read_text().splitlines()
    device, place, kind, options, *_ = line.split()
    assert (device, place, kind) == (export, str(tmp_path / "shared"), "nfs4")
    assert {"hard", "lookupcache=pos", "_netdev"} <= set(options.split(","))
    assert ("noresvport" not in options) == low_port  # Linux serves such ports only where an export is `insecure`
    assert f"mount {place}" in (tmp_path / "asked").read_text()
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == ["data", "reports", "studies"]
    assert list((tmp_path / "shared" / "studies").iterdir()) == []


def test_a_share_that_is_somebody_elses_is_refused(mount, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "studies").symlink_to("nowhere/at/all")
    done = mount("192.0.2.1:/s")
    assert done.returncode == 1
    assert "cannot write here; on the server, give it to this uid" in done.stderr


def test_installations_are_pinned():
    installations = [line for script in (ROOT / "cluster").iterdir() for line in script.read_text().splitlines()]
    installations += commands_of(load("ray_cluster.yaml"))
    installations = [line for line in installations if re.search(r"pip\"? install", line)]
    assert len(installations) >= 4
    assert all("--constraint" in line and "constraints.txt" in line for line in installations)


def test_constraints_pin_what_is_installed_here():
    for library in ("torch", "torchvision", "ray", "optuna", "mlflow", "boto3", "psycopg2-binary", "grpcio"):
        assert version(library).partition("+")[0] == PINS[library]


def test_ray_is_the_same_in_cluster_image_and_constraints():
    job = next(yaml.safe_load_all((ROOT / "ray_job_kuberay.yaml").read_text()))
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == PINS["ray"]
    assert f"FROM rayproject/ray:{PINS['ray']}-py312\n" in (ROOT / "cluster" / "Dockerfile").read_text()


@pytest.mark.parametrize("name", FILES)
def test_the_project_arrives_where_commands_look_for_it(name):
    config = load(name)
    assert config["file_mounts"] == {f"/home/{config['auth']['ssh_user']}/depth-trainability": "."}
    ignored = (ROOT / ".gitignore").read_text().split()
    assert config["rsync_filter"] == [".gitignore"]
    for folder in config["rsync_exclude"]:
        assert {folder, f"{folder}/"} & set(ignored)


def test_the_installed_packages_are_those_of_the_project():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    dockerfile = (ROOT / "cluster" / "Dockerfile").read_text()
    assert all(f"COPY --chown=ray:users {package} " in dockerfile for package in packages)


@pytest.mark.parametrize("name", FILES)
def test_ray_itself_is_started_as_the_study_needs_it(name):
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    config = load(name)
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        stop, begin = config[kind]
        assert stop == "~/environment/bin/ray stop"
        assert "RAY_memory_monitor_refresh_ms=0" in begin
        options = [word.partition("=")[0] for word in shlex.split(begin) if word.startswith("--")]
        assert set(options) <= known
        assert "--disable-usage-stats" in options
    head = config["head_start_ray_commands"][1]
    port = re.search(r"--port=(\d+)", head)[1]
    assert f"--address=$RAY_HEAD_IP:{port}" in config["worker_start_ray_commands"][1]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert "--dashboard-host=127.0.0.1" in head


def environment_of(command, tmp_path, **exported):
    """Return the environment in which a command that starts Ray runs it, after what `ray up` puts before it."""
    from ray.autoscaler._private.util import with_envs

    ray = tmp_path / "environment" / "bin" / "ray"
    ray.parent.mkdir(parents=True, exist_ok=True)
    ray.write_text("#!/bin/sh\nenv\n")
    ray.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "RAY_HEAD_IP": "192.0.2.10"}
    command = ["bash", "-c", *with_envs([command], exported)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=20)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("RAY_"))


@pytest.mark.parametrize(("name", "expected"), [*zip(FILES, ("1", "0"), strict=True)])
def test_which_autoscaler_is_used(name, expected, tmp_path):
    """The second one takes an on-premise head for one of the workers."""
    command = load(name)["head_start_ray_commands"][1]
    assert environment_of(command, tmp_path, RAY_enable_autoscaler_v2="1")["RAY_enable_autoscaler_v2"] == expected


@pytest.mark.parametrize("name", FILES)
def test_a_job_that_is_stopped_has_time_to_end(name, tmp_path):
    """Ray's own 3 s are too few to stop packs and tell MLflow."""
    environment = environment_of(load(name)["head_start_ray_commands"][1], tmp_path)
    assert int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) == 60


def test_workers_of_aws_scale_and_the_head_trains_nothing():
    config = load("ray_cluster.yaml")
    types = config["available_node_types"]
    assert set(types) == {"head", "gpu_worker"}
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["head"]["max_workers"] == 0
    worker = types["gpu_worker"]
    assert worker["resources"]["GPU"] == 1  # a Ray trial asks for one GPU and one core
    assert worker["min_workers"] == 0 < worker["max_workers"] <= config["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert config["provider"]["region"] in config["auth"]["ssh_proxy_command"]
    zones = config["provider"]["availability_zone"].split(",")
    assert all(zone.startswith(config["provider"]["region"]) for zone in zones)


def aws_problems(node_config):
    """Return what AWS's own model of the request has against a node; placeholders are taken as they are."""
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    return ParamValidator().validate({**node_config, "MinCount": 1, "MaxCount": 1}, shape).generate_report()


@pytest.mark.parametrize("node_type", ["head", "gpu_worker"])
def test_aws_would_take_the_nodes(node_type):
    node = load("ray_cluster.yaml")["available_node_types"][node_type]["node_config"]
    assert aws_problems(node) == ""
    assert "Unknown parameter" in aws_problems({**node, "InstanceTyp": "m7i.large"})
    assert "24.04" in node["ImageId"]  # older ones come with a Python that is too old for this project
    assert node["ImageId"].startswith("resolve:ssm:/aws/service/")
    (disk,) = node["BlockDeviceMappings"]
    assert disk["Ebs"]["VolumeSize"] >= 60  # torch with CUDA takes 8 GB, and images come with 8 to 35
    assert disk["Ebs"]["Encrypted"]
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert node["IamInstanceProfile"]["Name"]  # Ray's own gives the head every right over EC2 and S3


def test_no_port_of_aws_is_open():
    config = load("ray_cluster.yaml")
    # Without groups of our own Ray makes one that admits the whole internet to port 22.
    for node in config["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"] == ["<security group id>"]
        assert "NetworkInterfaces" not in node["node_config"]
    assert "security_group" not in config["provider"]
    assert config["provider"]["use_internal_ips"] is True
    assert config["auth"]["ssh_proxy_use_node_id"] is True
    assert "ssm start-session" in config["auth"]["ssh_proxy_command"]


def test_no_server_listens_beyond_loopback():
    everything = "\n".join(
        [(ROOT / name).read_text() for name in FILES] + [path.read_text() for path in (ROOT / "cluster").iterdir()]
    )
    assert "0.0.0.0" not in everything
    assert set(re.findall(r"--(?:dashboard-)?host[= ](\S+)", everything)) == {"127.0.0.1"}


def test_on_premise_addresses_are_examples_and_agree():
    config = load("ray_cluster_onprem.yaml")
    head, workers = config["provider"]["head_ip"], config["provider"]["worker_ips"]
    assert len({head, *workers}) == len(workers) + 1
    assert all(address.startswith("192.0.2.") for address in [head, *workers])  # reserved for documentation
    assert f"--node-ip-address={head} " in config["head_start_ray_commands"][1]
    assert "available_node_types" not in config  # Ray aborts on them here, with a traceback


def test_what_must_be_filled_in_is_explained():
    page = (ROOT / "docs" / "cluster.md").read_text()
    for name in (*FILES, "ray_job_kuberay.yaml", "cluster/Dockerfile"):
        for placeholder in set(re.findall(r"<[a-z][a-z ]+>", (ROOT / name).read_text())) - {"<angle brackets>"}:
            assert f"`{placeholder}`" in page, placeholder


def test_secrets_stay_off_command_lines():
    for script in (ROOT / "cluster").glob("*.sh"):
        for line in script.read_text().splitlines():
            if line.lstrip().startswith(("sudo", "exec", '"$environment', "mlflow")):
                assert "password" not in line.lower(), line
                assert "secret_key" not in line.lower(), line
