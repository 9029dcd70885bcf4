"""Every study has a report or one clear line: whole, odd, half-finished and damaged ones; nothing is nan."""

import contextlib
import dataclasses
import functools
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import __main__ as analysis_command
from analysis import figure_style, tidy_frames
from analysis.__main__ import QUESTIONS, main
from analysis.findings import Findings
from analysis.load_runs import make_client
from analysis.report import escape_markdown, make_sentences
from benchmarks.simulated_study import UNFINISHED, write_store
from search_spaces.axes import grid
from study import run_log_schema as schema
from study.tracking_uri import home_tracking_uri
from tests.simulated_studies import Truth, simulate_study

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::ResourceWarning")

SPITEFUL = "images:<script>alert('x')</script> | *bold* [link](http://x)"


def make_grid(**fields):
    return grid(
        **{"depth": [3, 50], "dilution": [0, 4], "normalization": "batch", "seed": [0, 1], "epochs": 1, **fields}
    )


def all_end(trials, status):
    return {trial.trial_id: status for trial in trials}


WHOLE = make_grid(depth=[3, 20, 60], activation=["relu", "tanh"]) + make_grid(
    optimizer="sgd", learning_rate=[0.03, 0.1], momentum=0.9
)
STUDIES = {
    "whole": (WHOLE, {}),
    "one-seed": (make_grid(seed=0), {}),
    "one-depth": (make_grid(depth=8), {}),
    "depth-two": (make_grid(depth=2), {}),
    "one-trial": (make_grid(depth=8, dilution=0, seed=0), {}),
    "untrained": (make_grid(epochs=0), {}),
    "none-fails": (make_grid(depth=[3, 5], activation="relu", normalization="layer"), {}),
    "all-fail": (make_grid(depth=[90, 99], dilution=0), {}),
    "all-diverged": (make_grid(), all_end(make_grid(), schema.STATUS_DIVERGED)),
    "only-dilution": (make_grid(dilution=4, depth=[3, 8]), {}),
    "several-conditions": (make_grid(depth=[3, 20, 60], epochs=[1, 2], precision=["fp32", "bf16"]), {}),
    "half-finished": (
        make_grid(),
        all_end(make_grid()[:2], UNFINISHED) | all_end(make_grid()[2:3], schema.STATUS_FAILED),
    ),
    "tables-lost": (make_grid(), {}),
}
WITHOUT_REPORT = {
    "nothing-measured": (
        make_grid(),
        all_end(make_grid(), schema.STATUS_FAILED),
        "no trial of 'nothing-measured' measured anything before it failed; see tag error in MLflow",
    ),
    "just-begun": (
        make_grid(),
        all_end(make_grid(), UNFINISHED),
        "MLflow holds no trial of 'just-begun' that ended (0 are running); run it (again), or: python -m study sync",
    ),
    "empty": (
        [],
        {},
        "MLflow holds no trial of 'empty' that ended (0 are running); run it (again), or: python -m study sync empty",
    ),
}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One store that holds all of these studies."""
    storage = tmp_path_factory.mktemp("studies")
    for name, (trials, statuses, *_) in {**STUDIES, **WITHOUT_REPORT}.items():
        uri = write_store(storage, name, trials, statuses, data=SPITEFUL if name == "whole" else "synthetic")
    shutil.rmtree(storage / schema.ARTIFACT_FOLDER / "tables-lost")
    return uri


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(figure_style, "DOTS_PER_INCH", 40)


@pytest.fixture(scope="module")
def report_of(uri, tmp_path_factory):
    """Write the report of a study, once; return its folder and what was printed."""

    @functools.cache
    def write(name):
        output = tmp_path_factory.mktemp("reports")
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            assert main(["report", name, "--tracking-uri", uri, "--output", str(output)]) == 0
        assert errors.getvalue() == ""
        return output / name, printed.getvalue()

    return write


def words_of(page):
    """What a reader sees of a page, without its style, script and pictures."""
    text = page.read_text()
    text = re.sub(r"(?s)<(style|script)>.*?</\1>", "", text)
    return re.sub(r'(src|srcset)="data:[^"]*"', "", text)


def assert_nothing_is_nan(text):
    assert not re.findall(r".{60}\b(?:[Nn]a[Nn]|inf|None|NaT)\b.{20}", " ".join(text.split()))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_report(report_of, name):
    folder, printed = report_of(name)
    page = words_of(folder / "index.html")
    assert_nothing_is_nan(page)
    answer = re.findall(r"<li>(.*?)</li>", page.partition("</ol>")[0])
    assert len(answer) == (4 if name == "half-finished" else 3)
    assert all(sentence.endswith(".") and len(sentence) < 700 for sentence in answer)
    linked = re.findall(r'href="([^#"]*)"', page)
    assert linked
    for file in linked:
        assert (folder / file).stat().st_size > 0, file
    assert "index.html" in printed


def test_what_was_not_trained_has_not_failed(report_of):
    folder, _ = report_of("untrained")
    page = words_of(folder / "index.html")
    assert "8 trials were not trained (epochs 0) and enter no estimate of errors." in page
    assert page.partition("</ol>")[0].count("none of 8 trials has a final training error") == 3
    assert not (folder / "trainable_depth.csv").exists()
    assert pd.read_csv(folder / "explosion_rates.csv")["explosion_rate"].notna().all()


@pytest.mark.parametrize("name", WITHOUT_REPORT)
@pytest.mark.parametrize("command", ["report", "depth"])
def test_studies_that_hold_nothing_are_one_line(uri, tmp_path, capsys, name, command):
    assert main([command, name, "--tracking-uri", uri, "--output", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert WITHOUT_REPORT[name][2] in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", ["whole", "one-trial"])
def test_questions_print_their_tables_and_write_their_files(uri, tmp_path, capsys, name, question):
    assert main([question, name, "--tracking-uri", uri, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert_nothing_is_nan(printed.out)
    files = re.search(r"Wrote (.*) in", " ".join(printed.out.split()))[1]
    assert {path.name for path in (tmp_path / name).iterdir()} == set(files.split(", ")) - {"nothing"}
    for path in (tmp_path / name).glob("*.csv"):
        assert len(pd.read_csv(path))
    if name == "whole":
        assert list((tmp_path / name).glob("*.svg"))
        assert list((tmp_path / name).glob("*.png"))


def test_what_a_study_says_is_text(uri, report_of, tmp_path):
    assert main(["report", "whole", "--tracking-uri", uri, "--output", str(tmp_path), "--format", "md"]) == 0
    for page in (report_of("whole")[0] / "index.html", tmp_path / "whole" / "index.md"):
        text = page.read_text()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text
    assert r"\| \*bold\* \[link\](http://x)" in text
    assert not re.search(r"\b(nan|inf)\b", text.lower())
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) > 4
    assert all((tmp_path / "whole" / picture).exists() for picture in pictures)
    tables = re.findall(r"(?m)^\|.*(?:\n\|.*)+", text)
    assert len(tables) > 4
    for table in tables:
        heading, line, *rows = [re.findall(r"(?<!\\)\|", row) for row in table.splitlines()]
        assert {len(heading)} == {len(line), *(len(row) for row in rows)}
        assert rows


def test_the_report_says_what_was_done_with_every_trial(uri, tmp_path):
    main(["report", "half-finished", "--tracking-uri", uri, "--output", str(tmp_path), "--failure-error", "0.5"])
    page = words_of(tmp_path / "half-finished" / "index.html")
    assert "8 trials (5 ok, 0 diverged, 1 failed, 2 unfinished)" in page
    assert "Made by: python -m analysis report half-finished --failure-error 0.5 --tracking-uri " in page
    assert "Varied: depth (3, 50), dilution (0, 4), seed (0, 1)." in page
    assert "scipy " in page


HOME, SERVER = home_tracking_uri(), "http://someone:correct-horse@host:5000"
SHOWN = "http://someone:***@host:5000"


@pytest.mark.parametrize(
    ("variable", "options", "added"),
    [
        ("", [], ""),
        ("", ["--failure-error", "0.12345678"], " --failure-error 0.12345678"),
        ("", ["--storage", "of others"], " --storage 'of others'"),
        ("", ["--output", "pages"], " --output pages"),
        ("", ["--tracking-uri", SERVER], f" --tracking-uri '{SHOWN}'"),
        (SERVER, [], ""),  # the variable holds what is hidden
        (SERVER, ["--tracking-uri", HOME], f" --tracking-uri {shlex.quote(HOME)}"),
        (SERVER, ["--storage", "others"], " --storage others"),
    ],
)
def test_the_command_that_writes_a_page_again_is_complete(monkeypatch, variable, options, added):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    written = []
    monkeypatch.setattr(analysis_command, "report_command", lambda options, _: written.append(options))
    assert main(["report", "demo", *options]) == 0
    assert analysis_command._report_command(written[0], "html") == f"python -m analysis report demo{added}"
    assert " --format md" in analysis_command._report_command(written[0], "md")


def test_a_question_tells_which_pages_are_of_an_earlier_report(uri, tmp_path, capsys):
    (tmp_path / "one-trial").mkdir()
    (tmp_path / "one-trial" / "index.md").touch()
    main(["depth", "one-trial", "--tracking-uri", uri, "--output", str(tmp_path)])
    told = capsys.readouterr().out
    assert "index.md there is of an earlier report" in told
    assert " --format md" in told
    assert "index.html" not in told


def test_nothing_is_said_twice(report_of):
    folder, _ = report_of("none-fails")
    paragraphs = re.findall(r"<p>(.*?)</p>", words_of(folder / "index.html"))
    assert len(paragraphs) == len(set(paragraphs))


def test_lost_tables_are_told(report_of):
    folder, _ = report_of("tables-lost")
    assert "The tables of 8 trials are lost" in words_of(folder / "index.html")


@pytest.mark.skipif(shutil.which("node") is None, reason="the page's script takes node to run outside of a browser")
def test_unknown_numbers_are_sorted_last_and_infinite_ones_largest():
    template = Path(analysis_command.__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    (script,) = re.findall(r"(?s)<script>(.*?)</script>", template)
    # What is declared before the loop over headings needs no page.
    declared = script[: script.index("for (const heading")]
    cells = ["–", "∞", "≥ 84", "", "9.5 to 12", "−", "1e-3"]
    sort = "cells.map(numberIn).sort((a, b) => compare(a, b, up)).map(String)"
    program = f"{declared}const cells = {json.dumps(cells)}; for (const up of [true, false]) console.log({sort}.join())"
    printed = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True, timeout=60).stdout
    up, down = (line.split(",") for line in printed.split())
    assert up == ["0.001", "9.5", "84", "Infinity", "null", "null", "null"]
    assert down == ["Infinity", "84", "9.5", "0.001", "null", "null", "null"]


def test_the_page_needs_nothing_from_elsewhere(report_of):
    text = (report_of("one-depth")[0] / "index.html").read_text()
    assert not re.findall(r'(?:src|srcset|href)="(?:https?:)?//[^"]*"', text)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src(?:set)?="([^"]*)"', text))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reprot", "whole"], "invalid choice: 'reprot'"),
        (["report", "hole"], "study: 'hole' does not exist; choose one of: "),
        (["depth", "../whole"], "name: '../whole' is unusable"),
        (["depth", "whole", "--failure-error", "7"], "failure-error: 7 is out of range"),
        (["report", "whole", "--format", "pdf"], "invalid choice: 'pdf'"),
        (["report"], "arguments are required: name"),
    ],
)
def test_typos_are_one_line(uri, tmp_path, capsys, arguments, message):
    if arguments[0] in ("report", "depth") and len(arguments) > 1:
        arguments = [*arguments, "--tracking-uri", uri, "--output", str(tmp_path)]
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1


def test_an_unwritable_report_folder(uri, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for command in ("report", "rates"):
        assert main([command, "one-trial", "--tracking-uri", uri, "--output", str(tmp_path / "file" / "reports")]) == 2
        assert "output: cannot write to " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a|b", r"a\|b"), ("<b> & *c*", r"&lt;b&gt; &amp; \*c\*"), ("two\nlines", "two lines"), ("`x`_y_", r"\`x\`\_y\_")],
)
def test_markdown_shows_text_as_it_is(text, escaped):
    assert escape_markdown(text) == escaped


def test_that_conditions_share_a_threshold_is_told(report_of):
    said = "One threshold of failure holds for all 4 conditions"
    assert said in words_of(report_of("several-conditions")[0] / "index.html")
    assert "One threshold" not in words_of(report_of("one-seed")[0] / "index.html")


def test_a_report_takes_the_place_of_the_one_before(uri, report_of, tmp_path):
    folder = tmp_path / "only-dilution"
    shutil.copytree(report_of("one-seed")[0], folder)  # as where two stores hold studies of one name
    (folder / "my notes.txt").write_text("mine")
    (folder / "a folder").mkdir()
    with (folder / ".written-by-report").open("ab") as listed:
        listed.write(b"\n..\na folder\n../one-seed/index.html\n\xff\n")
    earlier = {path.name for path in folder.iterdir()}
    assert main(["report", "only-dilution", "--tracking-uri", uri, "--output", str(tmp_path)]) == 0
    client = make_client(uri)
    experiment = client.get_experiment_by_name("only-dilution report")
    (run,) = client.search_runs([experiment.experiment_id], max_results=1)
    stored = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    present = {path.name for path in folder.iterdir()}
    assert earlier - present  # what only the other study's report has
    assert present - stored == {"my notes.txt", "a folder", ".written-by-report"}
    assert (folder / "my notes.txt").read_text() == "mine"


def test_a_storage_that_overrides_the_variable_is_told(uri, monkeypatch, capsys, tmp_path):
    storage = Path(uri.removeprefix("sqlite:///")).parent
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/server.db")
    assert main(["importance", "one-seed", "--storage", str(storage), "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"--storage {storage} is read, not $MLFLOW_TRACKING_URI\n"


@pytest.mark.parametrize(("missing", "unfinished"), [(0, 0), (0, 3), (7, 0), (7, 3)])
def test_a_report_of_a_part_says_to_which_side_it_leans(missing, unfinished):
    study = simulate_study(Truth(depths=(4, 40)))
    count = len(study.trials)
    status = study.trials["status"].where(np.arange(count) >= unfinished, tidy_frames.UNFINISHED)
    study = dataclasses.replace(study, trials=study.trials.assign(status=status), planned=count + missing)
    first, *others = make_sentences(Findings(study))
    if missing or unfinished:
        assert first.startswith(f"Interim: {count - unfinished} of {count + missing} planned trials have")
    assert len(others) == (3 if missing or unfinished else 2)
