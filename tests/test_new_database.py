"""A new database of MLflow's is there whole or not at all, and nobody else's is touched."""

import os
import sqlite3
import subprocess
import sys
import time

import mlflow
import pytest

from study import new_database, run_log
from study.new_database import is_new_database, make_database
from study.tracking import check_tracking

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own

MAKER = """
import sys
from study.tracking import check_tracking
check_tracking(sys.argv[1])
"""


@pytest.fixture(autouse=True)
def kept(tmp_path_factory, monkeypatch):
    """The folder of what is kept, of a user who has made none."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "depth-trainability" / "databases"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mlflow.db"


def make_row(uri):
    path = uri.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        database.execute("create table numbers (number)")
        database.execute("insert into numbers values (7)")


def read_row(path):
    with sqlite3.connect(path) as database:
        return database.execute("select number from numbers").fetchall()


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_what_may_be_wrong_is_no_new_database(tmp_path):
    (tmp_path / "text").write_text("no database")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "missing" / "mlflow.db")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = (
        "folder",
        "text",
        "text/mlflow.db",
        "missing/mlflow.db",
        "link",
        "loop",
        "mlflow.db?mode=ro",
        "a%20b",
        "x" * 300,
    )
    uris = [f"sqlite:///{tmp_path / name}" for name in names]
    uris += ["sqlite:///mlflow.db", "sqlite:///:memory:", "sqlite:////dev/null", "http://127.0.0.1:5000"]
    assert [uri for uri in uris if is_new_database(uri)] == []


def test_what_holds_nothing_is_a_new_database(path):
    assert is_new_database(f"sqlite:///{path}")
    assert not path.exists()
    path.touch()
    assert is_new_database(f"sqlite:///{path}")


@pytest.mark.parametrize("options", ["", "?timeout=30"])
def test_a_database_appears_whole_and_alone(path, options):
    meanwhile = []

    def look_meanwhile(uri):
        make_row(uri)
        meanwhile.append(names_in(path.parent))

    make_database(f"sqlite:///{path}{options}", look_meanwhile, lambda: "1")
    assert meanwhile == [[]]
    assert read_row(path) == [(7,)]
    assert names_in(path.parent) == ["mlflow.db"]


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-journal", "mlflow.db-wal"])
def test_beside_what_another_database_left_none_is_put(path, name):
    path.with_name(name).touch()
    make_database(f"sqlite:///{path}", lambda _: pytest.fail("SQLite would take both together"), lambda: "1")
    assert names_in(path.parent) == [name]


def test_a_database_that_somebody_makes_meanwhile_stays(path):
    def be_late(uri):
        make_row(uri)
        path.write_text("another's")

    make_database(f"sqlite:///{path}", be_late, lambda: "1")
    assert path.read_text() == "another's"
    make_database(f"sqlite:///{path}", lambda _: pytest.fail("it is there"), lambda: "1")
    assert names_in(path.parent) == ["mlflow.db"]


def test_what_cannot_be_made_elsewhere_is_left_to_mlflow(path, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError("no room here")

    make_database(f"sqlite:///{path}", fail, lambda: "1")
    (tmp_path / "link").symlink_to(path)
    for uri in (
        "http://127.0.0.1:5000",
        "sqlite:///:memory:",
        f"sqlite:///{tmp_path}/a%20b",
        f"sqlite:///{tmp_path}/link",
    ):
        make_database(uri, lambda _: pytest.fail("there is no such file to be made"), lambda: "1")
    monkeypatch.setattr(new_database, "write_whole", fail)
    make_database(f"sqlite:///{path}", make_row, lambda: "1")
    assert names_in(path.parent) == ["link"]


def test_a_file_system_without_links(path, monkeypatch):
    def fail(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", fail)
    make_database(f"sqlite:///{path}", make_row, lambda: "1")
    assert read_row(path) == [(7,)]
    assert names_in(path.parent) == ["mlflow.db"]


class Maker:
    """Makes tables, and counts how often."""

    def __init__(self):
        self.count = 0

    def __call__(self, uri):
        self.count += 1
        make_row(uri)

    def put_in(self, folder, version="1"):
        folder.mkdir()
        make_database(f"sqlite:///{folder / 'mlflow.db'}", self, lambda: version)
        assert read_row(folder / "mlflow.db") == [(7,)]


def test_tables_of_a_version_are_made_once_for_a_user(tmp_path, kept):
    maker = Maker()
    maker.put_in(tmp_path / "first")
    maker.put_in(tmp_path / "second")
    assert maker.count == 1
    assert names_in(kept) == ["1.db.gz"]
    maker.put_in(tmp_path / "of a newer version", "2")
    assert maker.count == 2


@pytest.mark.parametrize("damage", ["cut off", "altered", "emptied"])
def test_a_damaged_database_that_is_kept_is_made_anew(tmp_path, kept, damage):
    maker = Maker()
    maker.put_in(tmp_path / "first")
    content = (kept / "1.db.gz").read_bytes()
    middle = len(content) // 2
    altered = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    damaged = {"cut off": content[:-1], "altered": altered, "emptied": b""}[damage]
    (kept / "1.db.gz").write_bytes(damaged)
    maker.put_in(tmp_path / "second")
    assert maker.count == 2
    assert (kept / "1.db.gz").read_bytes() != damaged


@pytest.mark.parametrize("home", ["none", "a file"])
def test_where_nothing_can_be_kept_tables_are_made_each_time(tmp_path, monkeypatch, home):
    def fail(_):
        raise RuntimeError("Could not determine home directory.")

    if home == "none":
        monkeypatch.setattr(new_database, "make_cache_folder", fail)
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    maker = Maker()
    maker.put_in(tmp_path / "first")
    maker.put_in(tmp_path / "second")
    assert maker.count == 2


def test_a_folder_that_others_could_write_to_is_not_used(tmp_path, kept):
    maker = Maker()
    maker.put_in(tmp_path / "first")
    kept.chmod(0o777)
    maker.put_in(tmp_path / "second")
    assert maker.count == 2


def test_a_kept_database_knows_nothing_of_where_it_was_made(tmp_path, monkeypatch, kept):
    for name in ("first", "second"):
        place = tmp_path / name
        place.mkdir()
        monkeypatch.chdir(place)
        uri = f"sqlite:///{place / 'mlflow.db'}"
        check_tracking(uri)
        (default,) = mlflow.MlflowClient(uri).search_experiments()
        assert default.artifact_location == str(place / "mlruns" / "0")
    assert len(names_in(kept)) == 1


def test_a_process_killed_while_it_makes_tables_leaves_none(path, tmp_path):
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    uri = f"sqlite:///{path}"
    maker = subprocess.Popen([sys.executable, "-c", MAKER, uri], env={**os.environ, "TMPDIR": str(elsewhere)})
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size for file in elsewhere.rglob("mlflow.db")) and time.monotonic() < deadline:
        time.sleep(0.001)
    maker.kill()
    maker.communicate()
    assert any(elsewhere.rglob("mlflow.db"))
    assert not path.exists()
    check_tracking(uri)
    assert [experiment.name for experiment in mlflow.MlflowClient(uri).search_experiments()] == ["Default"]


@pytest.mark.parametrize("part", ["version", "inspect.getsource"])
def test_tables_of_other_makers_have_another_name(monkeypatch, part):
    name = run_log.tables_version()
    assert name == run_log.tables_version()
    assert name.startswith(mlflow.__version__)
    monkeypatch.setattr(f"study.run_log.{part}", lambda _: "another")
    assert run_log.tables_version() != name
