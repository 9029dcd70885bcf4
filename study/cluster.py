"""Ray on this machine, or a cluster's address → the devices that trials run on; left again when the study ends."""

import concurrent.futures.thread  # noqa: F401 -- it holds a lock while Ray forks, and must not begin to amid a fork
import contextlib
import dataclasses
import gc
import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

# Read by ray when it is imported or started: no usage statistics, and no memory monitor (it ends whole sweeps instead
# of single workers).
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
os.environ.setdefault("RAY_enable_metrics_collection", "0")  # nobody looks at them
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # Ray starts others when Tune asks
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")

import ray

from study.interruption import treat_sigterm_as_ctrl_c
from study.lean_ray import lean_node

FIRST_NOTICE_SECONDS, NOTICE_SECONDS = 30.0, 300.0
"""After how long somebody who waits for a worker is told so, and how often then."""
WAIT_SECONDS = 0.5
"""Between two looks whether it is there."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What Ray offers: the device that trials run on, and how many packs train at once (as far as is known now)."""

    device: str
    workers: int
    is_this_machine: bool = False


class WaitingNotices:
    """Tells, now and then, that the study waits for a device."""

    def __init__(self, device: str, tell: Callable[[str], None]) -> None:
        self._name, self._tell = "GPU" if device == "cuda" else "core", tell
        self._next: float | None = None

    def waits(self) -> None:
        """To be called again and again as long as it waits."""
        now = time.monotonic()
        if self._next is None:
            self._next = now + FIRST_NOTICE_SECONDS
        elif now >= self._next:
            self._tell(f"Waiting for a {self._name}: `ray status` on the head says what is up and what is asked for.")
            self._next = now + NOTICE_SECONDS

    def goes_on(self) -> None:
        """To be called when it waits no longer."""
        self._next = None


class ClusterConnection:
    """Joins a cluster while other things go on, and leaves it; use as a context manager.

    Its thread stays until the end: Ray lets Linux end its processes when the thread that started them ends.
    """

    def __init__(self, address: str | None, device: str, tell: Callable[[str], None] = print) -> None:
        """Takes what `connect` does; `tell` is given notice, in the connection's thread, that a GPU is waited for."""
        self._notices = WaitingNotices("cuda", tell)
        self._address, self._device = address, device
        self._cluster: Cluster | None = None
        self._error: BaseException | None = None
        self._joined, self._leaving = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray", daemon=True)

    def __enter__(self) -> "ClusterConnection":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._thread.join()

    def wait(self) -> Cluster:
        """Return the cluster once it is joined; raises what `connect` does. To be called in the main thread."""
        self._joined.wait()
        treat_sigterm_as_ctrl_c()  # Ray has set a handler that exits at once
        if self._error is not None:
            raise self._error
        assert self._cluster is not None
        return self._cluster

    def leave(self) -> None:
        """Begin to leave; the context ends when it is done."""
        self._leaving.set()

    def _run(self) -> None:
        try:
            self._cluster = connect(self._address, self._device, self._waits)
        except BaseException as error:  # told by `wait`
            self._error = error
            return
        finally:
            self._joined.set()
        self._leaving.wait()
        disconnect()

    def _waits(self) -> None:
        if self._leaving.is_set():
            raise InterruptedError("left before there was a GPU")
        if self._address is not None:
            self._notices.waits()


def connect(address: str | None, device: str, waits: Callable[[], None] = lambda: None) -> Cluster:
    """Start Ray on this machine, or join the cluster at `address`.

    Args:
        address: of an existing cluster, or None.
        device: "auto" takes the cluster's GPUs if there are any that torch can use; else "cpu" or "cuda". A cluster
            that grows on demand may have no GPU yet: there, "cuda" is taken at its word, and one is waited for.
        waits: called again and again while no GPU is free; what it raises ends the waiting.

    Raises:
        ValueError: the cluster cannot be reached, or lacks the device that is asked for.
    """
    if address is not None:
        check_address(address)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": "local", "include_dashboard": False}  # "local": never join what happens to run here
    else:
        options["address"] = address
    try:
        with warnings.catch_warnings(), contextlib.nullcontext() if address else lean_node():
            warnings.simplefilter("ignore")
            ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        first_line = str(error).strip().partition("\n")[0]
        if address is None:
            raise ValueError(f"ray: could not be started on this machine ({first_line})") from None
        raise ValueError(f"address: no Ray cluster at {address!r} ({first_line}); start one or leave it out") from None
    try:
        cluster = _choose_device(device, may_grow=address is not None, waits=waits)
        return dataclasses.replace(cluster, is_this_machine=address is None)
    except BaseException:
        ray.shutdown()
        raise


def check_address(address: str) -> None:
    """Raise ValueError when nothing listens at an address: Ray itself would try for minutes and print each time."""
    if address.startswith("ray://"):
        raise ValueError(f"address: {address} is for Ray Client; run this command on the head node, with auto")
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(f"address: no Ray cluster at {address!r} ({error}); give auto or HOST:PORT") from None


def _choose_device(device: str, may_grow: bool, waits: Callable[[], None]) -> Cluster:
    cpus, gpus = _count("CPU"), _count("GPU")
    if device != "cpu" and (gpus or (device == "cuda" and may_grow)):
        usable = _torch_sees_a_gpu.options(num_gpus=1).remote()
        while not ray.wait([usable], timeout=WAIT_SECONDS)[0]:
            waits()
        if ray.get(usable):
            return Cluster("cuda", max(1, _count("GPU")))
        if device == "cuda":
            raise ValueError("device: 'cuda' was asked for and torch cannot use this GPU; use --device cpu")
    elif device == "cuda":
        raise ValueError("device: 'cuda' was asked for and Ray sees no GPU; use --device cpu")
    if not cpus and device == "auto":
        raise ValueError("device: the cluster has neither CPUs nor GPUs yet; give --device cuda, or --device cpu")
    return Cluster("cpu", max(1, cpus))


def _count(resource: str) -> int:
    return int(ray.cluster_resources().get(resource, 0))


@ray.remote(num_cpus=0)
def _torch_sees_a_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def disconnect() -> None:
    """Leave the cluster; stops a Ray that `connect` started."""
    # Ray ends the process when another thread collects Ray's objects in this moment.
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()
