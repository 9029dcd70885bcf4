"""Ray and Tune without what has nothing to do in a study; all of their private names that it takes are in this file.

On this machine Ray starts without what grows a cluster, what passes on what workers print, the dashboard, and both of a
node's agents: one serves the dashboard, the other makes environments that nobody asks for. The agents alone would take
two and a half seconds of a processor before the first worker starts. Ray has no option for it.
"""

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray._private.node
import ray._private.ray_constants
import ray._private.services
import ray._private.utils

raylet: Any = importlib.import_module("ray._raylet")  # compiled, and without types

NODE_SECONDS = 5.0
"""After so long, Ray is left to find out for itself whether the node comes up."""
ASKS_FOR_ENVIRONMENT = ("RAY_RUNTIME_ENV_HOOK", "RAY_JOB_CONFIG_JSON_ENV_VAR")
"""Variables by which a user, or a job of a cluster, may ask for an environment, which takes Ray's own agent."""
IDLE_AGENT = Path(__file__).with_name("idle_agent.py")
AGENT_PORTS = (
    raylet.METRICS_AGENT_PORT_NAME,
    raylet.METRICS_EXPORT_PORT_NAME,
    raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME,
    raylet.RUNTIME_ENV_AGENT_PORT_NAME,
)
NO_PORT = -1
"""Ray's own word for a service that is not offered. Whoever asks for an environment nevertheless ends the node."""


class _LeanNode(ray._private.node.Node):
    def start_monitor(self) -> None:
        pass

    def start_log_monitor(self) -> None:
        pass

    def start_api_server(self, **_: Any) -> None:
        self._webui_url = ""  # as for a Ray without dashboard

    def start_raylet(self, *arguments: Any, **options: Any) -> None:
        """Start it with agents that only wait, having written the ports for which it would wait."""
        for name in AGENT_PORTS:
            raylet.persist_port(self._session_dir, self._node_id, name, NO_PORT)
        with (
            _replaced(ray._private.services, "_build_python_executable_command_memory_profileable", _idle_agent),
            # It imports what the dashboard needs, to see whether it is there.
            _replaced(ray._private.utils, "get_dashboard_dependency_error", lambda: None),
        ):
            super().start_raylet(*arguments, **options)

    def start_ray_processes(self) -> None:
        """Return when the node is there: who asks Ray for it earlier waits whole seconds."""
        super().start_ray_processes()
        until = time.monotonic() + NODE_SECONDS
        with contextlib.suppress(Exception):  # Ray looks for it once more, and tells what is wrong
            while time.monotonic() < until:
                if any(node.hex() == self._node_id for node in self.get_gcs_client().get_all_node_info()):
                    return
                time.sleep(0.02)


def _idle_agent(*_: Any, **__: Any) -> list[str]:
    """Return what agents are started with; the paths and options of Ray's own, which follow, are passed over."""
    return [sys.executable, "-S", str(IDLE_AGENT)]


@contextlib.contextmanager
def lean_node() -> Iterator[None]:
    """Let `ray.init` start lean nodes meanwhile, unless somebody asks for an environment."""
    if any(name in os.environ for name in ASKS_FOR_ENVIRONMENT):
        yield
        return
    with (
        _replaced(ray._private.node, "Node", _LeanNode),
        # Below `uv run`, Ray would ask for an environment by itself; workers are started with this Python anyway.
        _replaced(ray._private.ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    usual = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, usual)


def make_tune_lean() -> None:
    """Let Tune skip what this study has no use for, for the rest of this process.

    To count callbacks for Ray's usage statistics it imports all it knows of, mlflow for one. The environment of its
    workers holds a setting for Lightning and this machine's AWS keys; workers here need none, and storage is a folder
    on all nodes. The state of each Ray trial, which it writes when a sweep ends, is for a restore; until it has, all
    wait, the longer the more packs there are. And Ray disassembles what a worker is to run, in order to warn of what is
    sent often; here it is sent once.
    """
    import ray.air._internal.usage  # with Tune, this takes a second
    from ray._private.function_manager import FunctionActorManager
    from ray.tune.execution import class_cache, tune_controller

    ray.air._internal.usage.tag_callbacks = lambda callbacks: False
    class_cache.DEFAULT_ENV_VARS = {}
    class_cache.ENV_VARS_TO_PROPAGATE = set()
    tune_controller.TuneController._get_trial_checkpoints = lambda self: {}  # type: ignore[method-assign]
    FunctionActorManager.compute_collision_identifier = (  # type: ignore[method-assign]
        lambda self, function_or_class: function_or_class.__name__.encode()
    )
