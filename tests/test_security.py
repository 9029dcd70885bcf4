"""What `docs/security.md` promises."""

import ast
import dataclasses
import ipaddress
import json
import os
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.findings import Findings
from analysis.report import write_report
from study import run_log_schema as schema
from study.datasets import load_dataset
from study.environment import describe_environment
from study.trial_config import TrialConfig
from study.trial_record import StudyFolder, TrialRecord
from tests.test_analysis import grid, simulate

ROOT = Path(__file__).parent.parent
SOURCES = [path for folder in ("study", "search_spaces", "analysis") for path in (ROOT / folder).glob("*.py")]

LIST_LISTENERS = """
import sys
import psutil
from study import __main__, driver

def look(options, trials, dataset, folder, tracking, tracking_uri, console):
    me = psutil.Process()
    with driver._joining_ray(options, console) as train:
        train.args[1].wait()
        for process in [me, *me.children(recursive=True)]:
            print("RUNS", *process.cmdline())
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    print("LISTENS", connection.laddr.ip)
    print("LEFT", len(me.children(recursive=True)))

driver._run_locked = look
__main__.main(["run", "depth", "--data", "synthetic:500", "--device", "cpu", "--send-later", *sys.argv[1:]])
"""


def test_ray_on_this_machine_listens_on_loopback_alone_and_leaves_nothing(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIST_LISTENERS, "--storage", tmp_path, "--data-folder", tmp_path],
        capture_output=True, text=True, timeout=200, check=True,
        cwd=ROOT, env=environment | {"RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    found = [ipaddress.ip_address(text) for text in re.findall(r"LISTENS (\S+)", done.stdout)]
    assert len(found) >= 4  # of GCS, node and driver; the agents that wait have none
    assert "LEFT 0\n" in done.stdout
    commands = re.findall(r"RUNS (.*)", done.stdout)
    assert any("raylet" in command for command in commands)
    left_out = ("monitor.py", "dashboard.py")  # the autoscaler's, that of logs, and the dashboard
    assert not [command for command in commands if any(name in command for name in left_out)]
    agents = [command for command in commands if "agent" in command.split("--")[0]]
    assert len(agents) == 2
    assert all("idle_agent.py" in command for command in agents)
    # Dual-stack sockets write 127.0.0.1 as ::ffff:127.0.0.1.
    assert all((getattr(address, "ipv4_mapped", None) or address).is_loopback for address in found), found


def test_the_driver_says_so_before_it_imports_ray():
    text = (ROOT / "study" / "driver.py").read_text().partition("def run_study")[2].partition("\n\n\n")[0]
    assert text.index("keep_ray_on_loopback()") < text.index("_import_ray")


def test_mlflow_is_served_on_loopback():
    recipe = (ROOT / "Makefile").read_text().partition("\nui:")[2].partition("\n\n")[0]
    assert "--host 127.0.0.1" in recipe


def calls_of(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def test_nothing_reads_pickles():
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.partition(".")[0] for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path
        for call in calls_of(path):
            name = ast.unparse(call.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if name in ("np.load", "numpy.load"):
                assert keywords.get("allow_pickle") == "False", path
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", path
            assert name not in {"eval", "exec", "pd.read_pickle", "yaml.load", "yaml.unsafe_load"}, path


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_cache_that_holds_a_pickle_is_made_again(tmp_path):
    sprung = tmp_path / "sprung"
    good = load_dataset("synthetic:50", tmp_path)
    (cache,) = (tmp_path / "cache").glob("*.arrays")
    with cache.open("wb") as file:
        for _ in range(7):  # as many as one has
            np.save(file, np.array([Trap(sprung)], dtype=object))
    assert load_dataset("synthetic:50", tmp_path).checksum == good.checksum
    assert not sprung.exists()


@settings(deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"[a./\\~-]{1,8}"), st.sampled_from(["..", "a/../b", "a\n", "x" * 101])))
def test_no_name_leads_out_of_the_storage(name):
    storage = Path("/storage")
    refused = False
    try:
        schema.check_study_name(name)
    except ValueError:
        refused = True
    if not refused:
        assert Path(os.path.normpath(StudyFolder(storage, name).path)).parent == storage
        assert name not in schema.RESERVED_NAMES


@given(st.builds(TrialConfig, depth=st.integers(2, 10**6), seed=st.integers(0, 10**12)))
def test_no_trial_leads_out_of_its_study(trial):
    path = StudyFolder(Path("/storage"), "study").record_path(trial.trial_id)
    assert re.fullmatch(r"/storage/study/trials/[0-9a-f]{12}\.jsonl", str(path))


INJECTED = "<script>alert('x')</script>"


@pytest.mark.filterwarnings("ignore")
def test_reports_escape_what_runs_and_tags_hold(tmp_path):
    frames = simulate(grid(depth=[5, 9], seeds=[0, 1]))
    injected = dataclasses.replace(
        frames,
        name=INJECTED,
        data=INJECTED,
        data_checksum=INJECTED,
        environment={"version.x": INJECTED},
        incomplete=[INJECTED],
        trials=frames.trials.assign(network=INJECTED, optimizer=INJECTED),
    )
    page = write_report(Findings(injected), tmp_path, INJECTED).page.read_text()
    assert INJECTED not in page
    assert page.count("&lt;script&gt;") >= 6


SECRET = "correct-horse/battery+staple"


def test_tags_and_records_hold_nothing_of_the_environment(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:{SECRET}@127.0.0.1:5000")
    tags = describe_environment("cpu")
    assert SECRET not in json.dumps(tags)
    trial = TrialConfig(depth=3)
    TrialRecord(tmp_path / "record.jsonl", trial, "pack", tags).end("ok")
    written = (tmp_path / "record.jsonl").read_text()
    assert SECRET not in written
    assert not {"MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY"} & set(json.loads(written.splitlines()[0]))


@pytest.mark.filterwarnings("ignore")
def test_a_password_on_the_command_line_is_not_printed(tmp_path, monkeypatch, capsys):
    from analysis.__main__ import main as analyse
    from study.__main__ import main

    monkeypatch.chdir(tmp_path)
    uri = f"http://someone:{urllib.parse.quote(SECRET, safe='')}@127.0.0.1:9"
    assert main(["run", "demo", "--data", "synthetic:10000", "--tracking-uri", uri]) == 2
    assert analyse(["report", "demo", "--tracking-uri", uri]) == 2
    printed = capsys.readouterr()
    assert "cannot be read" in printed.err
    assert "does not answer" in printed.err
    for text in (printed.out, printed.err):
        assert SECRET not in text
        assert urllib.parse.quote(SECRET, safe="") not in text
