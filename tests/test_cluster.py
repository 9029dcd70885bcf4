"""Connecting to Ray: which device a study gets, and what is refused."""

import gc
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from study import sweep

pytestmark = pytest.mark.filterwarnings("ignore")  # ray's own


@pytest.fixture
def fake_ray(monkeypatch):
    """Stands for Ray: a cluster of `resources`, whose GPUs torch can use or not."""
    fake = SimpleNamespace(resources={"CPU": 2.0}, usable=True, options=None, left=0)
    monkeypatch.setattr(sweep.ray, "init", lambda **options: setattr(fake, "options", options))
    monkeypatch.setattr(sweep.ray, "cluster_resources", lambda: fake.resources)
    monkeypatch.setattr(sweep.ray, "shutdown", lambda: setattr(fake, "left", fake.left + 1))
    monkeypatch.setattr(sweep.ray, "get", lambda _: [fake.usable])
    task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(sweep, "_torch_sees_a_gpu", task)
    before = signal.getsignal(signal.SIGTERM)
    yield fake
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("resources", "usable", "address", "device", "expected"),
    [
        ({"CPU": 2}, True, None, "auto", ("cpu", 2)),
        ({"CPU": 8, "GPU": 2}, True, None, "auto", ("cuda", 2)),
        ({"CPU": 8, "GPU": 2}, True, None, "cpu", ("cpu", 8)),
        ({"CPU": 8, "GPU": 2}, False, None, "auto", ("cpu", 8)),
        ({}, True, "auto", "cuda", ("cuda", 1)),
        ({}, True, "auto", "cpu", ("cpu", 1)),
        ({"CPU": 4, "GPU": 1}, True, "auto", "auto", ("cuda", 1)),
    ],
)
def test_the_device(fake_ray, resources, usable, address, device, expected):
    fake_ray.resources, fake_ray.usable = resources, usable
    assert sweep.connect(address, device) == sweep.Cluster(*expected, is_this_machine=address is None)
    assert fake_ray.options["address"] == (address or "local")
    assert fake_ray.left == 0


@pytest.mark.parametrize(
    ("resources", "usable", "address", "device", "message"),
    [
        ({"CPU": 2}, True, None, "cuda", "Ray sees no GPU; use --device cpu"),
        ({"CPU": 2, "GPU": 1}, False, None, "cuda", "torch cannot use this GPU"),
        ({}, True, "auto", "auto", "neither CPUs nor GPUs yet; give --device cuda"),
    ],
)
def test_a_device_that_is_not_there(fake_ray, resources, usable, address, device, message):
    fake_ray.resources, fake_ray.usable = resources, usable
    with pytest.raises(ValueError, match=message):
        sweep.connect(address, device)
    assert fake_ray.left == 1


def test_ray_client_is_refused(fake_ray):
    with pytest.raises(ValueError, match=r"address: ray://host:10001 is for Ray Client; run this command on the head"):
        sweep.connect("ray://host:10001", "auto")
    assert fake_ray.options is None


def test_sigterm_is_ctrl_c_after_ray_has_set_its_own(fake_ray):
    sweep.connect(None, "cpu")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense", "127.0.0.1:none", ":", "127.0.0.1:99999999"])
def test_no_cluster_at_an_address(fake_ray, address):
    with pytest.raises(ValueError, match=f"address: no Ray cluster at '{address}'"):
        sweep.connect(address, "cpu")
    assert fake_ray.options is None


def test_auto_without_a_cluster(fake_ray, monkeypatch):
    def nothing(**_):
        raise ConnectionError("Could not find any running Ray instance.\nMore words")

    monkeypatch.setattr(sweep.ray, "init", nothing)
    with pytest.raises(
        ValueError, match=r"no Ray cluster at 'auto' \(Could not find any running Ray instance.\); start"
    ):
        sweep.connect("auto", "cpu")


def test_no_thread_collects_rays_objects_while_it_stops(fake_ray, monkeypatch):
    enabled = []
    monkeypatch.setattr(sweep.ray, "shutdown", lambda: enabled.append(gc.isenabled()))
    sweep.disconnect()
    assert enabled == [False]
    assert gc.isenabled()


def test_of_all_children_the_autoscaler_alone_is_ended(fake_ray, tmp_path):
    children = []
    for name in (sweep.AUTOSCALER, "other/monitor.py"):
        script = tmp_path / name
        script.parent.mkdir(parents=True)
        script.write_text("import time\ntime.sleep(60)")
        children.append(subprocess.Popen([sys.executable, "-u", script, "--gcs-address=127.0.0.1:1"]))
    autoscaler, other = children
    try:
        sweep.disconnect()
        assert autoscaler.wait(timeout=20) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
