"""`ray job submit` to a head that is started here: the demo study to its end, and nothing of the head left behind.

With RAY_JOB_OUTPUT set, what the job printed is kept in that file.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from study.trial_record import read_status

ROOT = Path(__file__).parent.parent
RAY = Path(sys.executable).with_name("ray")
JOB_SECONDS = 3000


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processes_of(folder):
    """Return the processes that name a folder on their command line or in their environment: those of our head."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(folder) in " ".join(
                [*process.cmdline(), *process.environ().values()]
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def head():
    """Start a head on ports and in a folder of its own; end what was started, and nothing else."""
    temp_dir = Path(tempfile.mkdtemp(prefix="rj", dir="/tmp"))  # sockets below it may have no long names
    gcs, dashboard, client, listen, grpc, runtime_env, metrics = free_ports(7)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",
        "RAY_memory_monitor_refresh_ms": "0",
        "PYTHONPATH": str(ROOT),
        "STARTED_FOR": str(temp_dir),
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    command = [
        RAY, "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={temp_dir}", "--num-cpus=2",
        "--object-store-memory=300000000", "--node-ip-address=127.0.0.1", f"--port={gcs}", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}",
        f"--dashboard-agent-listen-port={listen}", f"--dashboard-agent-grpc-port={grpc}",
        f"--runtime-env-agent-port={runtime_env}",
    ]  # fmt: skip
    log = (temp_dir / "head.log").open("w")
    process = subprocess.Popen(command, env=environment, cwd=temp_dir, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        for left in processes_of(temp_dir):
            left.kill()
        log.close()
        shutil.rmtree(temp_dir, ignore_errors=True)


def submit(address, environment, *entrypoint, seconds):
    # The address may refuse at first: the head is still starting.
    command = [RAY, "job", "submit", f"--address={address}", "--", *entrypoint]
    for _ in range(30):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
        if "Failed to connect to Ray" not in done.stderr + done.stdout:
            break
    return done


@pytest.mark.slow
@pytest.mark.timeout(JOB_SECONDS + 600)
def test_the_demo_study_runs_to_its_end(head, tmp_path):
    address, environment = head
    storage = tmp_path / "studies"
    study = f"{sys.executable} -m study run demo --address auto --storage {storage} --data-folder {ROOT / 'data'}"
    done = submit(address, environment, "bash", "-c", f"cd {ROOT} && {study}", seconds=JOB_SECONDS)
    output = done.stdout + done.stderr
    if "RAY_JOB_OUTPUT" in os.environ:
        Path(os.environ["RAY_JOB_OUTPUT"]).write_text(output)
    assert done.returncode == 0, output
    assert "succeeded" in output
    records = sorted((storage / "demo" / "trials").glob("*.jsonl"))
    assert len(records) == 48
    assert {read_status(record) for record in records} <= {"ok", "diverged"}
    assert all(json.loads(record.read_text().splitlines()[-1])["kind"] == "end" for record in records)
    again = submit(address, environment, "bash", "-c", f"cd {ROOT} && {study}", seconds=600)
    assert "48 trials, 48 of them finished before" in again.stdout
