"""A new database of MLflow's is there whole or not at all, and nobody else's is touched."""

import os
import sqlite3
import subprocess
import sys
import time

import mlflow
import pytest

from study.new_database import is_new_database, make_database
from study.tracking import check_tracking

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own

MAKER = """
import sys
from study.tracking import check_tracking
check_tracking(sys.argv[1])
"""


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


@pytest.mark.parametrize("kind", ["folder", "text", "missing folder", "relative", "options", "server", "memory"])
def test_what_may_be_wrong_is_no_new_database(tmp_path, kind):
    (tmp_path / "text").write_text("no database")
    (tmp_path / "folder").mkdir()
    uris = {
        "missing folder": f"sqlite:///{tmp_path}/none/mlflow.db",
        "relative": "sqlite:///mlflow.db",
        "options": f"sqlite:///{tmp_path}/mlflow.db?mode=ro",
        "server": "http://127.0.0.1:5000",
        "memory": "sqlite:///:memory:",
    }
    assert not is_new_database(uris.get(kind, f"sqlite:///{tmp_path / kind}"))


def test_what_holds_nothing_is_a_new_database(path):
    assert is_new_database(f"sqlite:///{path}")
    assert not path.exists()
    path.touch()
    assert is_new_database(f"sqlite:///{path}")


def test_a_database_appears_whole_and_alone(path):
    def look_meanwhile(uri):
        make_row(uri)
        assert names_in(path.parent) == []

    make_database(f"sqlite:///{path}", look_meanwhile)
    assert read_row(path) == [(7,)]
    assert names_in(path.parent) == ["mlflow.db"]


def test_a_database_that_somebody_makes_meanwhile_stays(path):
    def be_late(uri):
        make_row(uri)
        path.write_text("another's")

    make_database(f"sqlite:///{path}", be_late)
    assert path.read_text() == "another's"
    make_database(f"sqlite:///{path}", lambda _: pytest.fail("it is there"))
    assert names_in(path.parent) == ["mlflow.db"]


def test_what_cannot_be_made_beside_is_left_to_mlflow(path, monkeypatch):
    def fail(*_):
        raise OSError("no links here")

    make_database(f"sqlite:///{path}", fail)
    assert not path.exists()
    monkeypatch.setattr(os, "link", fail)
    make_database(f"sqlite:///{path}", make_row)
    assert names_in(path.parent) == []
    make_database("http://127.0.0.1:5000", lambda _: pytest.fail("no file"))


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
