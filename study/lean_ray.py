"""Ray on this machine alone, started without what has nothing to do here; all of Ray's private names are in this file.

Left out are what grows a cluster, what passes on what workers print, the dashboard, and both of a node's agents: one
serves the dashboard, the other makes environments that nobody asks for. They would take four seconds of a processor
before the first worker starts, and turns with the workers ever after. Ray has no option for it.
"""

import contextlib
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray._private.node
import ray._private.services

raylet: Any = importlib.import_module("ray._raylet")  # compiled, and without types

NODE_SECONDS = 5.0
"""After so long, Ray is left to find out for itself whether the node comes up."""
IDLE_AGENT = Path(__file__).with_name("idle_agent.py")
AGENT_PORTS = (
    raylet.METRICS_AGENT_PORT_NAME,
    raylet.METRICS_EXPORT_PORT_NAME,
    raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME,
    raylet.RUNTIME_ENV_AGENT_PORT_NAME,
)
NO_PORT = -1
"""What Ray's own agents write where a service is not offered."""


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
        usual_python = ray._private.services._build_python_executable_command_memory_profileable
        ray._private.services._build_python_executable_command_memory_profileable = _idle_agent_command
        try:
            super().start_raylet(*arguments, **options)
        finally:
            ray._private.services._build_python_executable_command_memory_profileable = usual_python

    def start_ray_processes(self) -> None:
        """Return when the node is there: who asks Ray for it earlier waits whole seconds."""
        super().start_ray_processes()
        until = time.monotonic() + NODE_SECONDS
        with contextlib.suppress(Exception):  # Ray looks for it once more, and tells what is wrong
            while time.monotonic() < until:
                if any(node.hex() == self._node_id for node in self.get_gcs_client().get_all_node_info()):
                    return
                time.sleep(0.02)


def _idle_agent_command(*_: Any, **__: Any) -> list[str]:
    """Return what agents are started with; the paths and options of Ray's own, which follow, are passed over."""
    return [sys.executable, "-I", "-S", str(IDLE_AGENT)]


@contextlib.contextmanager
def lean_node() -> Iterator[None]:
    """Let `ray.init` start lean nodes meanwhile."""
    usual_node = ray._private.node.Node
    ray._private.node.Node = _LeanNode  # type: ignore[misc]
    try:
        yield
    finally:
        ray._private.node.Node = usual_node  # type: ignore[misc]


def make_tune_lean(is_this_machine: bool) -> None:
    """Let Tune leave out what has nothing to do in this study.

    It counts callbacks by kind for the usage statistics, which are off, and imports what it knows of to do so, mlflow
    for one. On this machine, workers have the driver's environment; nobody would make the one that Tune asks for.
    """
    import ray.air._internal.usage  # with Tune, this takes a second
    from ray.tune.execution import class_cache

    ray.air._internal.usage.tag_callbacks = lambda callbacks: False
    if is_this_machine:
        class_cache.DEFAULT_ENV_VARS = {}
        class_cache.ENV_VARS_TO_PROPAGATE = set()
