"""What the documentation says of the family of networks against the tables it is made from."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from search_spaces import SPACES
from study.__main__ import main, make_parser
from study.activations import ACTIVATION_TABLE
from study.initialization import INITIALIZATION_TABLE
from study.normalizations import NORMALIZATION_TABLE

ROOT = Path(__file__).parent.parent
PAGE = (Path(__file__).parent.parent / "docs" / "measurements.md").read_text()
ROWS = (
    [(name, entry.formula) for name, entry in ACTIVATION_TABLE.items()]
    + [(name, entry.description) for name, entry in NORMALIZATION_TABLE.items()]
    + [(name, entry.description) for name, entry in INITIALIZATION_TABLE.items()]
)


@pytest.mark.parametrize(("name", "text"), ROWS)
def test_every_part_of_the_family_is_documented(name, text):
    assert f"| {name} | {text} |" in PAGE


COMMAND = re.compile(r"python -m study ((?:run|plan|gsc|atlas)\b[^\n'`#→]*(?:\n +--[^\n'`#→]*)*)")
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMANDS = [
    command.replace("\\\n", " ")
    for page in PAGES
    if page.name != "bad_inputs.md"
    for command in COMMAND.findall(page.read_text())
    if len(command.split()) > 1 and "[options]" not in command
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_documentation_can_be_parsed(command):
    assert make_parser().parse_args(shlex.split(command.replace("\\", "").replace(" SPACE", " demo")))


@pytest.mark.parametrize("space", SPACES)
def test_the_guide_says_how_much_work_a_space_is(space, capsys):
    main(["plan", space])
    work = re.search(r"Work to come: ([\d,.]+) TFLOP", capsys.readouterr().out)
    trials = f"{len(SPACES[space]()):,}"
    rows = (ROOT / "docs" / "guide.md").read_text().splitlines()
    assert [row for row in rows if row.startswith(f"| `{space}` |") and row.endswith(f"| {trials} | {work[1]} |")]


def test_what_a_compiler_is_worth_is_the_same_everywhere():
    texts = [(ROOT / name).read_text() for name in ("docs/speed.md", "README.md", "study/native_library.py")]
    speed, readme, warning = (" ".join(text.split()) for text in texts)
    measured = re.search(r"\*\*Kernels\*\* of the library make a step ([\d.]+ to [\d.]+) times as fast", speed)
    assert measured
    assert f"with a C++ compiler at hand, a training step is {measured[1]} times as fast" in readme
    assert f"kernels are not compiled, and a step takes {measured[1]} times as long" in warning


def test_the_documentation_has_commands():
    assert len(COMMANDS) >= 10
    assert any("--address auto --device cuda " in command and "--storage /shared" in command for command in COMMANDS)


ON_THE_HEAD = re.findall(
    r"^ {4}(ray (?:exec|job submit)\b[^']*'[^']*\bpython -m[^']*')", (ROOT / "docs" / "cluster.md").read_text(), re.M
)
STAND_INS = {
    # Ray joins a job's words, quoted, and gives them to a shell; `exec` gives it the one that it gets.
    "bin/ray": '#!/bin/bash\nif [ "$1" = exec ]; then bash -c "$3"; else while [ "$1" != -- ]; do shift; done; shift\n'
    'bash -c "$(printf "%q " "$@")"; fi\n',
    "environment/bin/python": '#!/bin/bash\nprintf "%s\\n" "$@"\n',
}


@pytest.mark.parametrize("command", ON_THE_HEAD)
def test_commands_for_the_head_arrive_whole(command, tmp_path):
    (tmp_path / "depth-trainability").mkdir()
    for name, text in STAND_INS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    _, *arguments = shlex.split(re.search(r"\bpython (-m [^']*)", command.replace("\\\n", " "))[0])
    assert done.stdout.splitlines() == arguments
    assert "--tracking-uri" in arguments


def test_the_page_has_commands_for_the_head():
    assert len(ON_THE_HEAD) == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_is_a_table_of_every_target():
    command = ["make", "--no-print-directory", "help"]  # `make test` may be what runs this
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    targets = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text())[1].split()
    assert sorted(line.split()[0] for line in lines) == sorted(targets)
    assert len({re.match(r"\S+ +", line).end() for line in lines}) == 1, "descriptions begin in different columns"
