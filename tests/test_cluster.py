"""Connecting to Ray: which device a study gets, and what is refused."""

import gc
import signal
import threading
from types import SimpleNamespace

import pytest

from study import cluster

pytestmark = pytest.mark.filterwarnings("ignore")  # ray's own


@pytest.fixture
def fake_ray(monkeypatch):
    """Stands for Ray: a cluster of `resources`, whose GPUs torch can use or not."""
    fake = SimpleNamespace(resources={"CPU": 2.0}, usable=True, options=None, left=0, ended=lambda: ["task"])
    monkeypatch.setattr(cluster.ray, "init", lambda **options: setattr(fake, "options", options))
    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: fake.resources)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: setattr(fake, "left", fake.left + 1))
    monkeypatch.setattr(cluster.ray, "get", lambda _: fake.usable)
    monkeypatch.setattr(cluster.ray, "wait", lambda tasks, timeout: (fake.ended(), []))
    task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(cluster, "_torch_sees_a_gpu", task)
    return fake


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
    assert cluster.connect(address, device) == cluster.Cluster(*expected, is_this_machine=address is None)
    assert fake_ray.options["address"] == (address or "local")
    assert fake_ray.left == 0


def test_who_waits_for_a_gpu_is_told_so(fake_ray, monkeypatch):
    """As on a cluster that starts the node in four minutes."""
    now, told = [1000.0], []
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])

    def wait():
        now[0] += 1
        fake_ray.resources = {"CPU": 4, "GPU": 1} if now[0] > 1400 else {}
        return ["task"] if now[0] > 1400 else []

    fake_ray.ended, fake_ray.resources = wait, {}
    with cluster.ClusterConnection("auto", "cuda", lambda text: told.append((now[0], text))) as connection:
        assert connection.wait() == cluster.Cluster("cuda", 1)
    assert [when for when, _ in told] == [1031, 1331]
    assert "Waiting for a GPU: `ray status`" in told[0][1]


def test_a_gpu_that_never_comes_can_be_given_up(fake_ray):
    fake_ray.ended, fake_ray.resources = list, {}
    with pytest.raises(KeyboardInterrupt), cluster.ClusterConnection("auto", "cuda"):
        raise KeyboardInterrupt
    assert fake_ray.left == 1


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
        cluster.connect(address, device)
    assert fake_ray.left == 1


def test_ray_client_is_refused(fake_ray):
    with pytest.raises(ValueError, match=r"address: ray://host:10001 is for Ray Client; run this command on the head"):
        cluster.connect("ray://host:10001", "auto")
    assert fake_ray.options is None


def test_joining_goes_on_beside_other_things(fake_ray, monkeypatch):
    may_start = threading.Event()
    monkeypatch.setattr(cluster.ray, "init", lambda **_: may_start.wait(10))
    before = signal.getsignal(signal.SIGTERM)
    with cluster.ClusterConnection(None, "cpu") as connection:
        may_start.set()
        assert connection.wait() == connection.wait() == cluster.Cluster("cpu", 2, is_this_machine=True)
        assert fake_ray.left == 0
        assert any(thread.name == "ray" for thread in threading.enumerate())  # with it, Ray's processes would end
        with pytest.raises(KeyboardInterrupt):  # whatever Ray has set
            signal.raise_signal(signal.SIGTERM)
        connection.leave()
    signal.signal(signal.SIGTERM, before)
    assert fake_ray.left == 1
    assert all(thread.name != "ray" for thread in threading.enumerate())


def test_what_went_wrong_is_told_to_who_waits(fake_ray):
    with (
        pytest.raises(ValueError, match="Ray sees no GPU; use --device cpu"),
        cluster.ClusterConnection(None, "cuda") as connection,
    ):
        connection.wait()
    assert fake_ray.left == 1  # by who tried


def test_ray_is_left_when_the_driver_fails(fake_ray):
    with pytest.raises(KeyboardInterrupt), cluster.ClusterConnection(None, "cpu"):
        raise KeyboardInterrupt
    assert fake_ray.left == 1


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense", "127.0.0.1:none", ":", "127.0.0.1:99999999"])
def test_no_cluster_at_an_address(fake_ray, address):
    with pytest.raises(ValueError, match=f"address: no Ray cluster at '{address}'"):
        cluster.connect(address, "cpu")
    assert fake_ray.options is None


def test_auto_without_a_cluster(fake_ray, monkeypatch):
    def nothing(**_):
        raise ConnectionError("Could not find any running Ray instance.\nMore words")

    monkeypatch.setattr(cluster.ray, "init", nothing)
    with pytest.raises(
        ValueError, match=r"no Ray cluster at 'auto' \(Could not find any running Ray instance.\); start"
    ):
        cluster.connect("auto", "cpu")


def test_a_folder_that_ray_cannot_write_to(fake_ray, monkeypatch):
    def fail(**_):
        raise FileNotFoundError(2, "No such file or directory", "/proc/nope")

    monkeypatch.setattr(cluster.ray, "init", fail)
    with pytest.raises(ValueError, match=r"ray: could not be started on this machine \(.*'/proc/nope'\)"):
        cluster.connect(None, "cpu")


def test_no_thread_collects_rays_objects_while_it_stops(fake_ray, monkeypatch):
    enabled = []
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: enabled.append(gc.isenabled()))
    cluster.disconnect()
    assert enabled == [False]
    assert gc.isenabled()
