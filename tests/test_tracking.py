"""Places that may hold an MLflow store: what cannot be used is one line, what is new is made when first asked for."""

import http.server
import subprocess
import sys
import threading

import mlflow
import pytest

from study import tracking
from study.new_database import is_new_database
from study.tracking import Connection, check_reachable, check_tracking

pytestmark = pytest.mark.filterwarnings("ignore")  # mlflow's own

DATA = {"data": "synthetic", "data_checksum": "1", "chance_error": "0.9"}


def test_mlflow_is_imported_when_it_is_first_asked():
    code = "import sys, study.driver, study.sync_command; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class OddServer(http.server.BaseHTTPRequestHandler):
    """Answers every request as `answer` says: a status, or bytes that are no HTTP."""

    answer: int | bytes = 200

    def do_GET(self):
        if isinstance(self.answer, bytes):
            self.wfile.write(self.answer)
        else:
            self.send_response(self.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("answer", [401, 500, 200, b"no http at all\r\n\r\n"])
def test_odd_servers_are_one_line_errors(answer):
    handler = type("Handler", (OddServer,), {"answer": answer})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ValueError, match=r"tracking-uri: http://user:\*\*\*@127") as caught:
        check_tracking(f"http://user:secret@127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://bad host", "http://127.0.0.1:notaport", "http://[broken", "https://127.0.0.1:9"]
)
def test_unusable_addresses_are_one_line_errors(uri):
    with pytest.raises(ValueError, match="tracking-uri: ") as caught:
        check_tracking(uri)
    assert "\n" not in str(caught.value)


def test_a_database_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(tracking, "CHECK_SECONDS", 0.1)
    never = threading.Event()
    monkeypatch.setattr(mlflow, "MlflowClient", lambda _: never.wait(20))
    with pytest.raises(ValueError, match=r"cannot be used \(no answer within seconds"):
        check_tracking("postgresql://host/db")
    never.set()


def test_kinds_of_stores_are_those_of_mlflow():
    from mlflow.tracking._tracking_service import utils

    assert {"", *tracking.STORES} == set(utils._tracking_store_registry._registry)
    with pytest.raises(ValueError, match=r"gopher://host cannot be used \(MLflow has no stores of kind 'gopher'\)"):
        check_reachable("gopher://host")


@pytest.mark.parametrize("closed", ["folder", "file"])
def test_a_database_needs_its_file_and_its_folder(tmp_path, monkeypatch, closed):
    path = tmp_path / "mlflow.db"
    path.touch()
    check_reachable(f"sqlite:///{path}")
    denied = {"folder": tmp_path, "file": path}[closed]
    monkeypatch.setattr(tracking.os, "access", lambda place, _: place != denied)  # root may write anywhere
    with pytest.raises(ValueError, match="tracking-uri: cannot write to"):
        check_reachable(f"sqlite:///{path}")


def test_a_driver_that_is_not_installed(monkeypatch):
    def miss(_):
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(mlflow, "MlflowClient", miss)
    with pytest.raises(ValueError, match=r"No module named 'psycopg': install it, or name another driver"):
        check_tracking("postgresql://host/db")


def test_a_new_database_is_made_when_it_is_asked_for(tmp_path, folder):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert is_new_database(uri)
    connection = Connection(uri, folder, DATA, epochs=1, at_once=False)
    assert connection.run_log is None
    assert is_new_database(uri)
    assert connection.open().find_runs() == {}
    assert not is_new_database(uri)
    assert Connection(uri, folder, DATA, epochs=1).run_log is not None
    with pytest.raises(ValueError, match="was run on synthetic"):
        Connection(uri, folder, {**DATA, "data_checksum": "2"}, epochs=1)
