"""Everything wrong that is tried on the command lines, by class → `docs/bad_inputs.md` (`python -m tests.bad_inputs`).

`make_world` fills a folder with what the inputs name: space files, damaged trees of images, and a study with results.
"""

import dataclasses
import io
import itertools
import json
import shlex
import sqlite3
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).parent.parent / "docs" / "bad_inputs.md"

STUDY, ANALYSIS = "study", "analysis"
SPACE = "spaces.py:good"
SMALL = "spaces.py:small"
SYNTHETIC = ("--data", "synthetic:100")
HOME = "sqlite:///studies/mlflow.db"


@dataclasses.dataclass(frozen=True)
class BadInput:
    """One command that is wrong."""

    kind: str
    program: str
    arguments: tuple[str, ...]


NOT_TEXT = ("3", "None", "[['relu']]", "True", "b'relu'")
NOT_NUMBERS = ("'three'", "None", "[[1, 2]]", "True", "float('nan')", "float('inf')", "1j", "{}")
FIELD_VALUES: dict[str, tuple[str, ...]] = {
    "depth": (*NOT_NUMBERS, "1", "0", "-5", "2.5", "10**400"),
    "width": (*NOT_NUMBERS, "0", "-1", "0.5"),
    "activation": (*NOT_TEXT, "'rleu'", "''", "'ReLU'", "'relu '"),
    "normalization": (*NOT_TEXT, "'batchnorm'", "''"),
    "dilution": (*NOT_NUMBERS, "-1", "-1e-9"),
    "initialization": (*NOT_TEXT, "'zeros'", "'looks_linear', activation='tanh'", "'looks_linear', width=7"),
    "gain": ("None", "True", "float('nan')", "-1", "0", "1e300", "1e-300", "'big'", "''"),
    "optimizer": (*NOT_TEXT, "'adamw'", "'SGD'"),
    "learning_rate": (*NOT_NUMBERS, "0", "-0.1"),
    "momentum": ("1", "-0.1", "0.9", "'0.9'", "float('nan'), optimizer='sgd'", "2, optimizer='sgd'"),
    "weight_decay": (*NOT_NUMBERS, "-1e-4"),
    "schedule": (*NOT_TEXT, "'linear'"),
    "clipping": (*NOT_TEXT, "'global'"),
    "clipping_threshold": (*NOT_NUMBERS, "0", "-1"),
    "layerwise_step_sizes": ("1", "'yes'", "None", "True"),
    "epochs": (*NOT_NUMBERS, "-1", "1.5"),
    "batch_size": (*NOT_NUMBERS, "1", "0", "-128"),
    "train_size": ("-1", "'all'", "0.5", "None"),
    "test_size": ("-1", "'all'", "0.5", "None"),
    "seed": (*NOT_NUMBERS, "-1", "0.1"),
    "probe_size": ("1", "0", "-3", "None"),
    "probe_vectors": ("1", "0", "-3", "None"),
}

SPACE_BODIES = (
    "return grid(dept=3)",
    "return grid()",
    "return grid(width=3)",
    "return grid(depth=[])",
    "return grid(depth=3, activation=[])",
    "return grid(depth=[3, 3])",
    "return grid(depth=3) + grid(depth=3)",
    "return grid(3)",
    "return [TrialConfig()]",
    "return [TrialConfig(3)]",
    "return [TrialConfig(depth=3, widht=4)]",
    "return []",
    "return None",
    "return 5",
    "return 'depth'",
    "return TrialConfig(depth=3)",
    "return (TrialConfig(depth=3),)",
    "return [TrialConfig(depth=3), None]",
    "return [{'depth': 3}]",
    "return (trial for trial in grid(depth=3))",
    "yield TrialConfig(depth=3)",
    "return 1 / 0",
    "raise RuntimeError('two\\nlines')",
    "raise RuntimeError",
    "raise SystemExit(0)",
    "raise MemoryError",
    "return f()",
    "return open('nowhere').read()",
    "return space_that_is_not_there",
    "import torch_that_is_not_there",
    "assert False",
    "trial = TrialConfig(depth=3); trial.depth = 4; return [trial]",
    "return space_with_argument()",
    "async def inner(): pass\n    return inner",
)
SPACE_FILES = {
    "syntax.py": b"def space(:\n",
    "indentation.py": b"def space():\nreturn []\n",
    "latin.py": b"# caf\xe9\ndef space(): return []\n",
    "zero.py": b"def space():\x00 return []\n",
    "empty.py": b"",
    "raises.py": b"raise ValueError('no\\nspace')\n",
    "leaves.py": b"import sys\nsys.exit(3)\n",
    "misses.py": b"import a_module_that_is_not_there\n",
    "number.py": b"space = 3\n",
    "argument.py": b"def space(depth): return []\n",
    "circular.py": b"from circular_that_is_not_there import space\n",
    "-dash.py": b"def space(): return []\n",
}
BAD_NAMES = (
    "", ".", "..", "../elsewhere", "/etc/passwd", "a/b", "a\\b", "-x", "--", ".hidden", "_x", "a b", "a\nb", "a\tb",
    "é", "名", "a:b", "a*b", "a?b", "a%2fb", "a'b", 'a"b', "a;b", "$HOME", "`id`", "<b>", "a&b", "a|b", "x" * 101,
    "mlflow.db", "mlartifacts", "Default", "studies/../..", "~", "~root", "%s", "{0}", "a,b", "a=b", "#", "@",
    "a\u202eb", "ａ",
)  # fmt: skip
BAD_DATA = (
    "", "auto", "cifar", "cifar11", "CIFAR10", "cifar10:", "images", "images:", "images:nowhere", "images:spaces.py",
    "images:/proc/1/nowhere", "images:" + "x" * 300, "synthetic:", "synthetic:0", "synthetic:49", "synthetic:-100",
    "synthetic:1e3", "synthetic:many", "synthetic:1000001", "synthetic: 100", "synthetic:100:200", "synthetic:٣٠٠",
    "synthetic100", "http://example.org", "s3://bucket/images", "../images",
)  # fmt: skip
BAD_FOLDERS = ("", "/proc/nowhere", "/dev/null/x", "spaces.py", "spaces.py/x", "x" * 300)
BAD_STORES = (
    "", "gopher://host", "sqlite:////proc/nowhere/mlflow.db", "sqlite:///spaces.py", "sqlite:///text.db",
    "sqlite:///folder.db", "sqlite:///nowhere/at/all/mlflow.db", "http://127.0.0.1:9", "http://", "http://:0",
    "http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:x", "https://127.0.0.1:9", "http://user:pass@127.0.0.1:9",
    "postgresql://", "mysql://127.0.0.1:9/x", "mssql://x", "spaces.py", "file:spaces.py", "databricks://", "ftp://x",
    "sqlite:/x", "sqlite://x/y", "sqlite:", "://", "uc:x", " ",
)  # fmt: skip
BAD_ADDRESSES = (
    "", "nowhere", "127.0.0.1:9", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "ray://127.0.0.1:10001", "::1",
    "[::1]:9", "localhost:-1", ":", ":6379", "http://127.0.0.1:8265",
)  # fmt: skip
BAD_NUMBERS = ("", "many", "1.5", "1e3", "0x10", "nan", "9" * 5000)

TREES = (
    "no-train", "no-test", "no-classes", "empty-classes", "one-class", "other-classes", "missing-class", "broken-image",
    "cut-off-image", "empty-image", "text-as-image", "link-to-nowhere", "one-colour", "file-as-split", "file-as-class",
    "only-text", "archive-as-image", "class-without-images", "bomb",
)  # fmt: skip
BAD_ATLASES = {
    "empty.csv": b"",
    "text.csv": b"hello\n",
    "binary.csv": bytes(range(256)) * 4,
    "header.csv": b"activation,normalization\nrelu,none\n",
    "words.csv": b"deviation,deviation_in_errors\nx,y\n",
    "numbers-alone.csv": b"deviation,deviation_in_errors\n1,2\n",
    "quotes.csv": b'a,"b\n',
    "nul.csv": b"a,b\n\x00,1\n",
}
BAD_MODELS = (
    "torch.nn", "torch.nn:", ":Linear", ":", "nowhere:make", "torch.nn:Linea", "torch.nn:Linear", "builtins:exit",
    "builtins:dict", "math:pi", "os:getcwd", "torch:zeros", "models:raises", "models:leaves", "models:number",
    "models:wants", "models:complains", "models:whole_numbers", "broken_models:make", "..models:make", "a b:c", "1:2",
    "torchvision.models:resnet19", "models:empty", "models:none", "models:missing",
)  # fmt: skip
BAD_SHAPES = ("", ",", "3,", "3,x", "0", "-1", "3,-1", "3.5", "3;4", "(3,)", "99999999999,16", "²", "8,8,8,8,8")
MODELS = """
import torch

def raises(): raise RuntimeError("two\\nlines")
def leaves(): raise SystemExit
def number(): return 3
def none(): return None
def wants(x): return torch.nn.Linear(8, x)
def empty(): return torch.nn.Sequential()

class complains(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 3), torch.nn.Linear(4, 3)
    def forward(self, x):
        return self.second(self.first(x))

class whole_numbers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 3)
    def forward(self, x):
        return self.first(x).long()
"""


def all_bad_inputs() -> list[BadInput]:
    """Return every input, class by class."""
    found = []

    def add(kind: str, *arguments: str, program: str = STUDY) -> None:
        found.append(BadInput(kind, program, arguments))

    for arguments in (
        (), ("",), ("rnu",), ("run",), ("plan",), ("run", "demo", "depth"), ("--epochs", "3"), ("run", "demo", "--"),
        ("run", "demo", "--epochs"), ("run", "demo", "--epoch-s", "3"), ("gsc", "--dpeth", "3"), ("gsc", "demo"),
        ("atlas", "demo"), ("run", "demo", "--device", "tpu"), ("gsc", "--format", "xml"), ("run", "demo", "a\nb"),
        ("run", "demo", "--device", ""), ("run", "demo", "--dry-run=yes"), ("plan", "demo", "--name", "x"), ("-x",),
    ):  # fmt: skip
        if arguments != ("run", "demo", "--"):
            add("command line of the study", *arguments)
    for arguments in (
        (), ("rpeort",), ("report",), ("report", "a", "b"), ("run-figures",), ("atlas",), ("atlas", "gsc.csv"),
        ("atlas", "a.csv", "--table", "t.md"), ("report", "x", "--outptu", "y"), ("report", "x", "--output"),
    ):  # fmt: skip
        add("command line of the analysis", *arguments, program=ANALYSIS)
    for option, value in itertools.product(("--epochs", "--limit", "--max-pack"), BAD_NUMBERS):
        add("numbers of `run` and `plan` that are none", "plan", SPACE, option, value)
    for option, value in (("--limit", "0"), ("--limit", "-1"), ("--max-pack", "0"), ("--max-pack", "-8"),
                          ("--epochs", "-1"), ("--epochs", "9" * 400)):  # fmt: skip
        add("numbers of `run` and `plan` out of range", "plan", SPACE, option, value)
        add("numbers of `run` and `plan` out of range", "run", SPACE, *SYNTHETIC, option, value)
    for number, _ in enumerate(field_calls()):
        add("fields of a trial", "plan", f"fields.py:field_{number}")
    for number, _ in enumerate(SPACE_BODIES):
        add("functions of spaces", "plan", f"bodies.py:body_{number}")
    for name in SPACE_FILES:
        add("files of spaces", "plan", f"./{name}:space")
    for space in (
        "", "dpeth", "DEMO", "demo ", "nowhere.py:space", "spaces.py", "spaces.py:", "spaces.py:godo",
        "spaces.py:__name__", ":good", "folder.py:space",
        "spaces:good", "../spaces.py:good", "spaces.py:good:small", "spaces.txt:good",
        "/dev/null:space", "x" * 300 + ".py:space",
    ):  # fmt: skip
        add("names of spaces", "plan", space)
    for name in BAD_NAMES:
        add("names of studies", "run", SMALL, *SYNTHETIC, f"--name={name}")
        add("names of studies, analysis", "report", f"--tracking-uri={HOME}", "--", name, program=ANALYSIS)
    for data in BAD_DATA:
        add("data specifications", "run", SMALL, "--data", data)
    for tree in TREES:
        add("trees of images", "run", SMALL, "--data", f"images:trees/{tree}")
    for space in ("large_batch", "large_probe", "large_train", "large_test"):
        add("sizes beyond the data", "run", f"spaces.py:{space}", *SYNTHETIC)
    for folder in BAD_FOLDERS:
        add("folders that cannot be written", "run", SMALL, *SYNTHETIC, f"--storage={folder}")
        add("folders that cannot be written", "run", SMALL, *SYNTHETIC, f"--data-folder={folder}")
    for store in BAD_STORES:
        add("tracking stores", "run", SMALL, *SYNTHETIC, f"--tracking-uri={store}")
        add("tracking stores, analysis", "report", "kept", f"--tracking-uri={store}", program=ANALYSIS)
    for address in BAD_ADDRESSES:
        add("addresses of Ray", "run", SMALL, *SYNTHETIC, "--name", "addressed", f"--address={address}")
    add("studies of others", "run", SMALL, *SYNTHETIC, "--name", "kept")
    add("studies of others", "run", SMALL, *SYNTHETIC, "--name", "locked")
    add("studies of others", "run", SMALL, *SYNTHETIC, "--name", "kept", "--storage", "elsewhere",
        "--tracking-uri", HOME)  # fmt: skip
    for arguments in (("report", "nowhere"), ("run-figures", "nowhere"), ("report", "begun"), ("report", "gone")):
        add("studies that cannot be analysed", *arguments, f"--tracking-uri={HOME}", program=ANALYSIS)
    for folder in BAD_FOLDERS:
        add("reports that cannot be written", "report", "kept", f"--tracking-uri={HOME}", f"--output={folder}",
            program=ANALYSIS)  # fmt: skip
    for name in (*BAD_ATLASES, "nowhere.csv", "folder.py", ""):
        add("atlases", "atlas", name, "--table", "t.md", "--figure", "f.png", program=ANALYSIS)
    for arguments in (
        ("--depth", "1"), ("--depth", "-3"), ("--depth", "x"), ("--width", "0"), ("--activation", "rleu"),
        ("--activation", ""), ("--normalization", "group"), ("--dilution", "-1"), ("--dilution", "nan"),
        ("--dilution", "x"), ("--initialization", "zeros"), ("--gain", "-2"), ("--gain", "big"), ("--gain", "nan"),
        ("--gain", "1e300"), ("--inputs", "0"), ("--outputs", "0"), ("--outputs", "-1"), ("--batch", "1"),
        ("--batch", "0"), ("--seeds", "0"), ("--seeds", "-1"), ("--probe-vectors", "1"), ("--probe-vectors", "0"),
        ("--classes", "5"), ("--input", "3"), ("--modules", "0"), ("--width", "9" * 30),
        ("--batch", "9" * 30), ("--inputs", "9" * 30), ("--plot", "a.pdf"), ("--plot", "nowhere/a.png"),
        ("--plot", "folder.png"), ("--plot", ""), ("--plot", "/proc/a.png"), ("--seeds", "9" * 20),
        ("--initialization", "looks_linear", "--activation", "tanh"),
        ("--initialization", "looks_linear", "--width", "7"),
    ):  # fmt: skip
        add("options of `gsc`", "gsc", *arguments)
    for model in BAD_MODELS:
        add("models of `gsc`", "gsc", "--model", model, "--input", "8")
    for shape in BAD_SHAPES:
        add("shapes for models of `gsc`", "gsc", "--model", "models:complains", f"--input={shape}")
    for arguments in (
        (), ("--depth", "3"), ("--width", "3"), ("--activation", "relu"), ("--modules", "third"), ("--modules", ","),
        ("--classes", "0"), ("--probe-vectors", "0"), ("--batch", "0"), ("--outputs", "3"),
    ):  # fmt: skip
        shape = ("--input", "8") if arguments else ()
        add("options with models of `gsc`", "gsc", "--model", "models:complains", *shape, *arguments)
    for arguments in (
        ("--width", "0"), ("--width", "-1"), ("--depth", "2"), ("--seeds", "1"), ("--output", "nowhere/a.csv"),
        ("--output", ""), ("--output", "folder.py"), ("--output", "/proc/a.csv"), ("--seeds", "x"),
    ):  # fmt: skip
        add("options of `atlas`", "atlas", *arguments)
    return found


def field_calls() -> list[str]:
    """Return a call of `grid` for every bad value of every field."""
    return [
        f"grid({'' if field == 'depth' else 'depth=3, '}{field}={value})"
        for field, values in FIELD_VALUES.items()
        for value in values
    ]


def write_page(inputs: list[BadInput]) -> str:
    """Return the text of PAGE."""
    counts = Counter(bad.kind for bad in inputs)
    lines = [
        "# Bad inputs",
        "",
        f"{len(inputs)} commands that are wrong are tried whenever the tests run (`tests/test_bad_inputs.py`). Each",
        "ends with status 2 and one line on the error output that begins with `error: `, before Ray is started, and",
        "leaves every file that was there, and every run in MLflow, as it was. They stand in `tests/bad_inputs.py`;",
        "`python -m tests.bad_inputs` makes this page.",
        "",
        "| class | tried | one of them |",
        "|---|---|---|",
    ]
    for kind, count in counts.items():
        first = next(bad for bad in inputs if bad.kind == kind and all(bad.arguments) and bad.arguments)
        command = f"python -m {first.program} {shlex.join(first.arguments)}"
        lines.append(f"| {kind} | {count} | `{command}` |")
    return "\n".join([*lines, ""])


def make_world(folder: Path) -> None:
    """Fill a folder with all that the inputs name."""
    imports = "from study.trial_config import TrialConfig\nfrom search_spaces.axes import grid\n\n\n"
    small = "width=4, epochs=1, batch_size=32, probe_size=16"
    spaces = {
        "good": "depth=3, width=4",
        "small": f"depth=3, {small}",
        "large_batch": "depth=3, probe_size=16",
        "large_probe": "depth=3, batch_size=32, probe_size=101",
        "large_train": f"depth=3, train_size=101, {small}",
        "large_test": f"depth=3, test_size=21, {small}",
    }
    bodies = {name: f"return grid({axes})" for name, axes in spaces.items()}
    _write_functions(folder / "spaces.py", imports, bodies)
    (folder / "spaces.txt").write_text("")
    fields = {f"field_{number}": f"return {call}" for number, call in enumerate(field_calls())}
    _write_functions(folder / "fields.py", imports, fields)
    rest = imports + "def space_with_argument(depth): return []\n\n\n"
    _write_functions(folder / "bodies.py", rest, {f"body_{number}": body for number, body in enumerate(SPACE_BODIES)})
    for name, content in {**SPACE_FILES, **BAD_ATLASES}.items():
        (folder / name).write_bytes(content)
    for name in ("folder.py", "folder.png", "folder.db", "elsewhere"):
        (folder / name).mkdir()
    (folder / "text.db").write_text("this is no database\n" * 50)
    (folder / "models.py").write_text(MODELS)
    (folder / "broken_models.py").write_text("def make(:\n")
    for tree in TREES:
        _make_tree(folder / "trees" / tree, tree)
    _make_studies(folder / "studies")


def _write_functions(path: Path, imports: str, bodies: dict[str, str]) -> None:
    path.write_text(imports + "\n\n".join(f"def {name}():\n    {body}\n" for name, body in bodies.items()))


def _make_tree(tree: Path, kind: str) -> None:
    """Make a good tree of two classes, then damage it."""
    for split, name, number in itertools.product(("train", "test"), ("cat", "dog"), range(20)):
        (tree / split / name).mkdir(parents=True, exist_ok=True)
        colour = (0, 0, 0) if kind == "one-colour" else (number * 9, 80 if name == "cat" else 160, 255 - number)
        Image.new("RGB", (32, 32), colour).save(tree / split / name / f"{number}.png")
    DAMAGES[kind](tree)


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _empty(folder: Path, but: str = "") -> None:
    for path in folder.rglob("*.png"):
        if not but or but not in path.parts:
            path.unlink()


def _replace(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _read(tree: Path) -> bytes:
    return (tree / "test" / "dog" / "3.png").read_bytes()


def _link_to_nowhere(tree: Path) -> None:
    (tree / "train" / "cat" / "link.png").symlink_to(tree / "nowhere.png")


def _archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz"):
        pass
    return packed.getvalue()


def _remove_classes(tree: Path) -> None:
    for name in ("cat", "dog"):
        _remove(tree / "train" / name)


def _file_instead(path: Path) -> None:
    _remove(path)
    path.write_text("")


def _only_text(tree: Path) -> None:
    for path in list((tree / "train").rglob("*.png")):
        path.rename(path.with_suffix(".txt"))


def _bomb() -> bytes:
    """Return a PNG whose header claims 60,000 × 60,000 pixels."""
    packed = io.BytesIO()
    Image.new("RGB", (1, 1)).save(packed, "PNG")
    content = bytearray(packed.getvalue())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no-train": lambda tree: _remove(tree / "train"),
    "no-test": lambda tree: _remove(tree / "test"),
    "no-classes": _remove_classes,
    "empty-classes": _empty,
    "one-class": lambda tree: (_remove(tree / "train" / "dog"), _remove(tree / "test" / "dog")),
    "other-classes": lambda tree: (tree / "test" / "dog").rename(tree / "test" / "horse"),
    "missing-class": lambda tree: _remove(tree / "test" / "dog"),
    "broken-image": lambda tree: _replace(tree / "test" / "dog" / "3.png", b"\x89PNG broken"),
    "cut-off-image": lambda tree: _replace(
        tree / "test" / "dog" / "3.png", (tree / "test/dog/3.png").read_bytes()[:60]
    ),
    "empty-image": lambda tree: _replace(tree / "train" / "cat" / "3.png", b""),
    "text-as-image": lambda tree: _replace(tree / "train" / "cat" / "3.png", b"hello\n"),
    "link-to-nowhere": _link_to_nowhere,
    "one-colour": lambda tree: None,
    "file-as-split": lambda tree: _file_instead(tree / "test"),
    "file-as-class": lambda tree: (_file_instead(tree / "train" / "dog"), _file_instead(tree / "test" / "dog")),
    "only-text": _only_text,
    "archive-as-image": lambda tree: _replace(tree / "train" / "cat" / "3.png", _archive()),
    "class-without-images": lambda tree: _empty(tree / "train" / "dog"),
    "bomb": lambda tree: _replace(tree / "train" / "cat" / "3.png", _bomb()),
}


def _make_studies(storage: Path) -> None:
    """Make a study with results on other data, one that has begun, and one whose experiment was deleted."""
    from study.run_log import RunLog
    from study.run_sender import RunSender
    from study.train_loop import MemberEpoch
    from study.trial_config import TrialConfig
    from study.trial_record import StudyFolder, TrialRecord

    uri = f"sqlite:///{storage.resolve() / 'mlflow.db'}"
    tags = {"data": "images:old", "data_checksum": "123", "chance_error": "0.9"}
    for name in ("kept", "begun", "gone"):
        folder = StudyFolder(storage.resolve(), name)
        folder.create()
        log = RunLog(uri, folder, tags, epochs=1)
        trial = TrialConfig(depth=3, width=4, epochs=1, batch_size=32, probe_size=16)
        record = TrialRecord(folder.record_path(trial.trial_id), trial, "pack", tags)
        layers = [(0, 0.0, layer, 0.5, 0.1, None, None, None) for layer in range(3)]
        record.add_epoch(MemberEpoch(trial.trial_id, 0, {"train/error": 0.9, "test/error": 0.9}, layers, False))
        if name == "kept":
            record.end("ok")
        with RunSender(lambda log=log: log, uri) as sender:
            sender.send([trial.trial_id])
        if name == "gone":
            log.client.delete_experiment(log.experiment_id)
    (storage / "locked").mkdir()


def read_runs(storage: Path) -> str:
    """Return what MLflow's database holds of runs, as text."""
    with sqlite3.connect(storage / "mlflow.db") as database:
        queries = ("SELECT * FROM runs", "SELECT * FROM metrics", "SELECT * FROM params", "SELECT * FROM tags")
        return json.dumps([sorted(map(str, database.execute(query))) for query in queries])


if __name__ == "__main__":
    PAGE.write_text(write_page(all_bad_inputs()), encoding="utf-8")
