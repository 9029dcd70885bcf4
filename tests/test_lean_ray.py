"""What is left out of Ray and Tune, when it is not, and that all else of Ray is as it was afterwards."""

import os
import subprocess
import sys
import time

import psutil
import pytest
import ray._private.node
import ray._private.ray_constants
import ray.air._internal.usage
from ray import tune
from ray._private.function_manager import FunctionActorManager
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController

from study import lean_ray

pytestmark = pytest.mark.filterwarnings("ignore")  # ray's own


def test_lean_nodes_are_started_meanwhile_alone():
    usual, asks_below_uv = ray._private.node.Node, ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
    with lean_ray.lean_node():
        assert ray._private.node.Node is lean_ray._LeanNode
        assert not ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
    with pytest.raises(KeyError), lean_ray.lean_node():
        raise KeyError  # what Ray raises, for one, when it cannot start
    assert ray._private.node.Node is usual
    assert ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV is asks_below_uv is True


@pytest.mark.parametrize("name", lean_ray.ASKS_FOR_ENVIRONMENT)
def test_who_asks_for_an_environment_gets_rays_own_agents(monkeypatch, name):
    monkeypatch.setenv(name, "anything")
    usual = ray._private.node.Node
    with lean_ray.lean_node():
        assert ray._private.node.Node is usual


def environment_of_workers():
    return class_cache._ActorClassCache().get(tune.Trainable)._default_options["runtime_env"]


def test_tune_skips_what_a_study_has_no_use_for(monkeypatch):
    for module, name in (
        (class_cache, "DEFAULT_ENV_VARS"),
        (class_cache, "ENV_VARS_TO_PROPAGATE"),
        (ray.air._internal.usage, "tag_callbacks"),
        (TuneController, "_get_trial_checkpoints"),
        (FunctionActorManager, "compute_collision_identifier"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # restored at the end
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a key")
    assert environment_of_workers()["env_vars"]["AWS_ACCESS_KEY_ID"] == "a key"
    lean_ray.make_tune_lean()
    assert not environment_of_workers().get("env_vars")
    counted = []
    monkeypatch.setattr(ray.air._internal.usage, "_count_callbacks", counted.append)
    ray.air._internal.usage.tag_callbacks([tune.Callback()])
    assert not counted
    assert TuneController._get_trial_checkpoints(None) == {}
    assert FunctionActorManager.compute_collision_identifier(None, tune.Trainable) == b"Trainable"


def test_an_idle_agent_ends_with_its_node():
    # As Ray's node does: it starts the agent with Ray's own path and options behind it.
    command = [*lean_ray._idle_agent("dashboard agent", "session"), "agent.py", "--node-id=1"]
    start = f"""
import os, subprocess, time
print(subprocess.Popen({command!r}, env=os.environ | {{"RAY_RAYLET_PID": str(os.getpid())}}).pid, flush=True)
time.sleep(60)
"""
    node = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    agent = psutil.Process(int(node.stdout.readline()))
    time.sleep(1.5)
    assert agent.is_running()
    node.kill()
    node.communicate()
    agent.wait(10)


def test_an_idle_agent_whose_node_is_gone_already_ends_at_once():
    ended = subprocess.run(lean_ray._idle_agent(), env=os.environ | {"RAY_RAYLET_PID": "1"}, timeout=10)
    assert ended.returncode == 0
