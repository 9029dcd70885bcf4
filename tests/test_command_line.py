"""Everything a user can get wrong: one line that names field, value and remedy, exit 2, before Ray starts."""

import csv
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

import analysis.__main__
from study.__main__ import main

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's and ray's own


@pytest.fixture(autouse=True)
def _in_a_folder_without_ray(tmp_path, monkeypatch):
    from study import cluster

    started = []  # an exception would end the thread alone that starts Ray
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(cluster, "connect", lambda *_: started.append(True))
    yield
    assert not started


def write_space(body, name="space.py"):
    imports = "from study.trial_config import TrialConfig\nfrom search_spaces.axes import grid\n\n\n"
    Path(name).write_text(f"{imports}def space():\n    {body}\n")
    return f"{name}:space"


def expect_error(capsys, *arguments):
    assert main(list(arguments)) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1, output.err
    assert "Traceback" not in output.err + output.out
    return output.err


GOOD = "return grid(depth=3, width=4, epochs=1, seed=[0, 1])"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return grid(depth=3, activation='rleu')", "activation: 'rleu' does not exist; did you mean 'relu'?"),
        ("return grid(depth=[3, 1])", "depth: 1 is out of range; give at least 2"),
        ("return grid(depth=3, learning_rate=-1)", "learning_rate: -1.0 is out of range; give a positive number"),
        ("return grid(dept=3)", "field: 'dept' does not exist; did you mean 'depth'?"),
        ("return [TrialConfig(depth=3, widht=4)]", "unexpected keyword argument 'widht'"),
        ("return [TrialConfig()]", "missing 1 required keyword-only argument: 'depth'"),
        ("return grid(depth=[3, 4, 3])", "number 3 repeats number 1"),
        ("return grid(depth=[])", "depth: has no values; give at least one"),
        ("return []", "the search space is empty"),
        ("return 5", "returned no list of TrialConfig"),
        ("return [{'depth': 3}]", "returned no list of TrialConfig"),
        ("return 1 / 0", "raised ZeroDivisionError: division by zero (space.py, line 6)"),
        ("return grid(depth=float('inf'))", "depth: inf is not a finite number"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_bad_spaces(capsys, command, body, message):
    assert message in expect_error(capsys, command, write_space(body))


def test_spaces_that_do_not_exist(capsys):
    assert "space: 'dpeth' does not exist; did you mean 'depth'?" in expect_error(capsys, "run", "dpeth")
    assert "file nowhere.py does not exist" in expect_error(capsys, "run", "nowhere.py:space")
    write_space(GOOD)
    assert "space.py names no function; give space.py:function" in expect_error(capsys, "plan", "space.py")
    assert "choose one of space\n" in expect_error(capsys, "plan", "space.py:other")  # and not what it imports
    assert "'spcae' does not exist; did you mean 'space'?" in expect_error(capsys, "plan", "space.py:spcae")
    assert "space:space names no file; give space.py:space" in expect_error(capsys, "plan", "space:space")
    assert "'spaces:space' does not exist" in expect_error(capsys, "plan", "spaces:space")
    Path("broken.py").write_text("def space(:\n")
    assert "broken.py cannot be imported (SyntaxError" in expect_error(capsys, "plan", "broken.py:space")


def test_a_space_that_takes_arguments(capsys):
    Path("asks.py").write_text("def space(depth):\n    return []\n\n\ndef mistaken():\n    return space()\n")
    message = expect_error(capsys, "plan", "asks.py:space")
    assert "asks.py:space is called without arguments; give each of its arguments a default" in message
    assert "'depth'" in message
    assert "space_loading" not in message
    # What the function itself calls wrongly is told with its line.
    assert "raised TypeError" in (message := expect_error(capsys, "plan", "asks.py:mistaken"))
    assert "(asks.py, line 6)" in message


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("run", "demo", "--max-pak", "3"), "--max-pak; did you mean --max-pack?"),
        (("run", "demo", "--storag=x"), "--storag; did you mean --storage?"),
        (("run", "demo", "--send"), "--send; did you mean --send-later?"),
        (("gsc", "--dept", "4"), "--dept; did you mean --depth?"),
        (("status", "demo", "--dept", "4"), "--dept (see python -m study status --help)"),
        (("run", "demo", "zzz"), "zzz (see"),
        (
            ("run", "demo", "zzz", "--tracking-ur", "http://me:secret@host"),
            "--tracking-ur; did you mean --tracking-uri?",
        ),
        (("run", "demo", "--tracking-ur=http://me:secret@host"), "--tracking-ur; did you mean --tracking-uri?"),
        (("run", "demo", "http://me:secret@host"), "… (see"),
    ],
)
def test_options_are_written_in_full_and_mistyped_ones_get_a_suggestion(capsys, arguments, hint):
    with pytest.raises(SystemExit, match="2"):
        main(list(arguments))
    told = capsys.readouterr().err
    assert f"error: unrecognized arguments: {hint}" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("program", "arguments", "hint"),
    [
        (main, ("stauts", "demo"), "; did you mean status? (see python -m study --help)"),
        (main, ("run", "demo", "--device", "cdua"), "; did you mean cuda? (see"),
        (main, ("run", "demo", "--device", "gpu"), "; did you mean cuda? (see"),
        (main, ("run", "demo", "--device", "CPU"), "; did you mean cpu? (see"),
        (main, ("zzz",), "'atlas') (see"),
        (main, (), "required: COMMAND, one of run, status, sync, plan, gsc, atlas (see"),
        (main, ("status",), "required: name (see"),
        (analysis.__main__.main, ("reprot", "demo"), "; did you mean report? (see python -m analysis --help)"),
        (analysis.__main__.main, (), "required: COMMAND, one of report, rates"),
    ],
)
def test_commands_are_named_and_mistyped_ones_get_a_suggestion(capsys, program, arguments, hint):
    with pytest.raises(SystemExit, match="2"):
        program(list(arguments))
    assert hint in capsys.readouterr().err


GOES_ON = "interrupted; the same command goes on where this one stopped\n"


@pytest.mark.parametrize(
    ("arguments", "interrupted", "told"),
    [
        (("gsc",), "study.gsc_command.measure", "interrupted\n"),
        (("plan", "demo"), "study.__main__.print_plan", "interrupted\n"),
        (("run", "demo"), "study.driver.run_study", GOES_ON),
        (("sync", "demo"), "study.sync_command.sync_study", GOES_ON),
    ],
)
def test_an_interrupted_command_says_whether_it_goes_on(capsys, monkeypatch, arguments, interrupted, told):
    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, press_ctrl_c)
    assert main(list(arguments)) == 130
    assert capsys.readouterr().err == told


def test_a_gpu_that_is_missing_is_missed_before_ray_starts(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    storage = tmp_path / "studies"
    options = ("--device", "cuda", "--data", "synthetic:200", "--storage", str(storage))
    assert "device: 'cuda' was asked for and torch finds no GPU" in expect_error(capsys, "run", "demo", *options)
    assert not (storage / "demo").exists()
    assert "no GPU" in expect_error(capsys, "run", "demo", "--address", "local", *options)


def test_a_cluster_that_is_missing_is_missed_before_a_study_begins(capsys, tmp_path):
    options = ("--address", "127.0.0.1:9", "--data", "synthetic:200", "--storage", str(tmp_path / "studies"))
    assert "address: no Ray cluster at '127.0.0.1:9'" in expect_error(capsys, "run", "demo", *options)
    assert not (tmp_path / "studies" / "demo").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-pack", "0"], "max_pack: 0 is out of range; give 1"),
        (["--limit", "0"], "limit: 0 is out of range"),
        (["--epochs", "-1"], "epochs: -1 is out of range"),
        (["--name", "../elsewhere"], "name: '../elsewhere' is unusable"),
        (["--name", ""], "name: '' is unusable"),
        (["--name", "mlflow.db"], "name: 'mlflow.db' is taken by the storage or by MLflow"),
        (["--data", "auto"], "'auto' is for the demo alone"),
        (["--data", "cifar11"], "synthetic or synthetic:N (N training images)\n"),
        (["--data", "images:nowhere"], "folder nowhere does not exist"),
        (["--data", "synthetic:100"], "batch_size: 128 is more than the 100 training images"),
        (["--storage", "/proc/nowhere"], "storage: cannot write to /proc/nowhere"),
        (["--tracking-uri", "sqlite:////proc/nowhere/mlflow.db"], "cannot write to /proc/nowhere/mlflow.db"),
        (["--tracking-uri", "gopher://host"], "tracking-uri: gopher://host cannot be used"),
    ],
)  # fmt: skip
def test_bad_options(capsys, options, message):
    arguments = ["run", write_space(GOOD), "--data", "synthetic:200", *options]
    assert message in expect_error(capsys, *arguments)


def test_bad_data_folders(capsys, tmp_path):
    space = write_space(GOOD)
    tree = tmp_path / "tree"
    for split in ("train", "test"):
        (tree / split / "cat").mkdir(parents=True)
        (tree / split / "dog").mkdir(parents=True)
    assert "put images into" in expect_error(capsys, "run", space, "--data", f"images:{tree}")
    assert not Path("studies/space").exists()  # a study that never began
    Path("studies/space/trials").mkdir(parents=True)  # another driver is about to begin it
    expect_error(capsys, "run", space, "--data", f"images:{tree}")
    assert Path("studies/space/trials").exists()
    for folder in tree.glob("*/*"):
        Image.new("RGB", (32, 32)).save(folder / "0.png")
    (tree / "test" / "dog" / "0.png").write_bytes(b"\x89PNG broken")
    assert "test/dog/0.png is broken" in expect_error(capsys, "run", space, "--data", f"images:{tree}")


def test_a_tracking_server_that_does_not_answer(capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = expect_error(capsys, "run", write_space(GOOD), "--tracking-uri", f"http://127.0.0.1:{port}")
    assert f"tracking-uri: http://127.0.0.1:{port} does not answer" in message
    assert "start the server or give another one" in message


def test_a_server_that_is_no_mlflow(capsys):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    assert "does not answer" in expect_error(capsys, "run", write_space(GOOD), "--tracking-uri", address)
    server.shutdown()
    server.server_close()


def test_a_study_on_other_data_is_refused(capsys):
    from study.run_log import RunLog
    from study.trial_record import StudyFolder

    folder = StudyFolder(Path.cwd() / "studies", "space")
    folder.create()
    tags = {"data": "images:old", "data_checksum": "123"}
    RunLog(f"sqlite:///{folder.storage / 'mlflow.db'}", folder, tags, epochs=1)
    capsys.readouterr()  # mlflow's own words
    small = write_space("return grid(depth=3, width=4, epochs=1, batch_size=32, probe_size=16)")
    message = expect_error(capsys, "run", small, "--data", "synthetic:100")
    assert "study 'space' was run on images:old (checksum 123)" in message
    assert "choose another --name" in message


def test_records_of_other_data_are_enough_to_refuse(capsys, make_trial):
    from study.trial_record import StudyFolder, TrialRecord

    folder = StudyFolder(Path.cwd() / "studies", "space")
    folder.create()
    other = make_trial(seed=9)  # not asked for below: a study has one data set, whichever trials are run
    TrialRecord(folder.record_path(other.trial_id), other, "pack", {"data": "images:old", "data_checksum": "123"})
    small = write_space("return grid(depth=3, width=4, epochs=1, batch_size=32, probe_size=16)")
    message = expect_error(capsys, "run", small, "--data", "synthetic:100")
    assert "study 'space' was run on images:old (checksum 123)" in message


def test_a_study_that_is_being_run_is_refused(capsys):
    from filelock import FileLock

    small = write_space("return grid(depth=3, width=4, epochs=1, batch_size=32, probe_size=16)")
    Path("studies/space").mkdir(parents=True)
    with FileLock("studies/space/.driver.lock"):
        message = expect_error(capsys, "run", small, "--data", "synthetic:100")
    assert "study 'space' is being run by another process" in message


@pytest.mark.parametrize(
    "arguments", [[], ["rnu"], ["run"], ["run", "demo", "--max-pack", "many"], ["gsc", "--dpeth", "3"]]
)
def test_unusable_command_lines_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depth", "1"], "depth: 1 is out of range"),
        (["--activation", "rleu"], "did you mean 'relu'?"),
        (["--seeds", "0"], "seeds: 0 is out of range"),
        (["--inputs", "0"], "inputs: 0 is out of range"),
        (["--gain", "-2"], "gain: -2.0 is out of range"),
        (["--gain", "1e300"], "gain: 1e+300 is out of range"),
        (["--batch", "1"], "batch: 1 is out of range; give at least 2"),
        (["--probe-vectors", "1", "--normalization", "batch"], "probe_vectors: 1 is out of range"),
        (
            ["--initialization", "looks_linear", "--activation", "tanh"],
            "activation: 'tanh' is out of range; use 'relu'",
        ),
        (["--input", "3,32,32"], "input: --input goes with --model"),
        (["--model", "torch.nn:Linear", "--input", "8", "--depth", "9"], "depth: --depth is of the study's networks"),
        (["--model", "torch.nn", "--input", "8"], "model: 'torch.nn' names no factory"),
        (["--model", "nowhere:make", "--input", "8"], "model: nowhere:make cannot be imported (ModuleNotFoundError"),
        (["--model", "torch.nn:Linea", "--input", "8"], "model: torch.nn:Linea cannot be imported (AttributeError"),
        (["--model", "torch.nn:Linear", "--input", "8"], "model: torch.nn:Linear raised TypeError"),
        (["--model", "torch.nn:ReLU", "--input", "8"], "modules: none that owns a weight is called"),
        (["--model", "torch.nn:ReLU"], "input: is missing; give the shape"),
        (["--model", "torchvision.models:resnet19", "--input", "3,32,32"], "did you mean 'resnet1"),
        (["--model", "builtins:exit", "--input", "3"], "model: builtins:exit raised SystemExit"),
        (["--modules", "0"], "modules: --modules goes with --model"),
        (["--model", "torch.nn:ReLU", "--input", "3,x"], "input: '3,x' is no shape"),
        (["--plot", "figure.pdf"], "plot: figure.pdf is no PNG"),
        (["--plot", "nowhere/figure.png"], "plot: folder nowhere does not exist"),
        (["--width", "4000000"], "memory: this does not fit"),
        (["--model", "torch.nn:ReLU", "--input", "99999999999,16"], "memory: this does not fit"),
    ],
)
def test_bad_gsc_options(capsys, options, message):
    assert message in expect_error(capsys, "gsc", *options)


SMALL_NETWORK = ("--depth", "6", "--width", "20", "--inputs", "10", "--batch", "30", "--seeds", "3")


def test_gsc_as_json(capsys):
    assert main(["gsc", *SMALL_NETWORK, "--normalization", "batch", "--format", "json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["depth"] == 6
    assert measured["gsc_convention"] == "unsquared"
    assert measured["log10_gsc"]["standard_deviation"] > 0
    assert 1 < measured["explosion_rate"]["mean"] < 1.5
    assert len(measured["log10_gsc_by_layer"]) == 6
    assert measured["layers"][0]["preactivation_std"] is None
    assert measured["layers"][5]["preactivation_std"] == pytest.approx(1, abs=1e-3)


def test_gsc_as_csv(capsys):
    assert main(["gsc", *SMALL_NETWORK, "--normalization", "rms", "--activation", "gelu", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["name"] for row in rows] == ["input", "v_1", "v_2", "v_3", "v_4", "v_5"]
    assert float(rows[1]["linear_fit_error"]) > 0


def test_gsc_as_a_table(capsys):
    assert main(["gsc", "--depth", "2", "--width", "5", "--inputs", "4", "--batch", "6", "--seeds", "1"]) == 0
    output = capsys.readouterr().out
    assert "log10 GSC, input to output" in output
    assert "no rate: gradients reach fewer than two inner layers" in output


def test_gsc_of_a_model_from_a_factory(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "import torch\n\n\ndef small(num_classes=2):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(8, 9), torch.nn.Tanh(), torch.nn.Linear(9, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--model", "my_models:small", "--input", "8", "--classes", "5", "--plot", "figure.png"]
    assert main(["gsc", *options]) == 0
    output = capsys.readouterr().out
    assert "my_models:small: 3 seeds" in output
    assert "log10 GSC, input to losses" in output
    assert Path("figure.png").read_bytes().startswith(b"\x89PNG")
    assert main(["gsc", *options, "--format", "json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert [layer["width"] for layer in measured["layers"]] == [8, 9, 5]
    assert measured["log10_gsc"]["standard_deviation"] > 0  # every seed makes another model


def test_a_plot_that_is_a_folder(capsys):
    Path("folder.png").mkdir()
    assert "plot: cannot write to folder.png" in expect_error(capsys, "gsc", "--plot", "folder.png")


OTHER_MODELS = """
import torch

def encoder():
    return torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)

def convolution():
    return torch.nn.Conv2d(3, 12, 3)

class Narrow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 64), torch.nn.Linear(64, 64)

    def forward(self, x):
        return self.second(self.first(x))[:, :3]
"""


@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.parametrize(("name", "shape"), [("encoder", "5,16"), ("convolution", "3,10,10"), ("Narrow", "8")])
def test_outputs_that_are_no_logits_have_no_loss(capsys, tmp_path, monkeypatch, name, shape):
    (tmp_path / "other_models.py").write_text(OTHER_MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["gsc", "--model", f"other_models:{name}", "--input", shape, "--seeds", "2", "--format", "json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["log10_gsc_to_loss"] is None
    assert measured["log10_gsc"]["mean"] is not None
    assert "no losses: the output [32, " in measured["reading"]


CASTING_MODEL = """
import torch

class Casting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(8, 9), torch.nn.Linear(9, 10)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.float())))
"""


def test_a_model_that_casts_by_itself_is_measured_in_its_precision(capsys, tmp_path, monkeypatch):
    (tmp_path / "casting.py").write_text(CASTING_MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--model", "casting:Casting", "--input", "8", "--seeds", "1"]
    assert "then give dtype=torch.float32 (--dtype float32)" in expect_error(capsys, "gsc", *options)
    assert main(["gsc", *options, "--dtype", "float32"]) == 0
    assert "log10 GSC, input to losses" in capsys.readouterr().out


@pytest.mark.parametrize("space", ["demo", "depth", "dilution", "rescue", "tradeoff"])
def test_every_space_can_be_planned(capsys, space):
    assert main(["plan", space]) == 0
    output = capsys.readouterr().out
    assert f"Study {space}:" in output
    assert "TFLOP" in output


def test_little_work_is_told_in_a_smaller_unit(capsys):
    assert main(["plan", write_space("return grid(depth=3, width=4, epochs=1, train_size=100, test_size=100)")]) == 0
    output = capsys.readouterr().out
    # 3072·4 + 4·4 + 4·10 weights; no whole batch of 128 to train on; 2 evaluations of 200 images at 2 per weight
    assert "Work to come: 9.9 MFLOP" in output
    assert "9.88" in output
    assert "TFLOP" not in output


def test_a_dry_run_plans_and_trains_nothing(capsys, tmp_path):
    assert main(["run", write_space(GOOD), "--data", "synthetic:200", "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "0 of 2 trials are finished" in output
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize("command", [("plan",), ("run", "--data", "synthetic:200", "--dry-run")])
def test_trials_that_train_nothing_are_told(capsys, command):
    name, *options = command
    space = write_space("return grid(depth=3, width=4, epochs=[0, 1], seed=[0, 1])")
    assert main([name, space, *options]) == 0
    assert capsys.readouterr().out.startswith("2 of 4 trials have epochs=0: their networks are measured and not tr")
    assert main([name, space, *options, "--limit", "1", "--epochs", "1"]) == 0
    assert "epochs=0" not in capsys.readouterr().out


def test_nobody_needs_to_read_the_output():
    command = f"{sys.executable} -m study plan demo --limit 1 >&-"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("errors", [subprocess.PIPE, subprocess.STDOUT, "closed"])
def test_a_command_goes_on_when_its_reader_has_gone(tmp_path, errors):
    written = tmp_path / "written"
    code = f"""
import sys
from pathlib import Path
from study import __main__
def last_step(options, console):
    for number in range(3):
        console.print(f"step {{number}}")
    print("a warning", file=sys.stderr)
    Path({str(written)!r}).touch()
    return 0
__main__.plan_command = last_step
__main__.end_process(__main__.main(["plan", "demo"]))
"""
    reader, writer = os.pipe()
    os.close(reader)
    command = ["sh", "-c", 'exec "$0" "$@" 2>&-'] if errors == "closed" else []
    kept = None if errors == "closed" else errors
    done = subprocess.run([*command, sys.executable, "-c", code], cwd=ROOT, stdout=writer, stderr=kept, text=True)
    os.close(writer)
    assert written.exists()
    assert (done.returncode, done.stderr) == (0, "a warning\n" if errors == subprocess.PIPE else None)
