"""200 trials of 50 epochs through `mlflow server` on PostgreSQL: the database holds exactly what was recorded."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults import studies

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(3600)]


@pytest.fixture
def database(tmp_path_factory):
    """A PostgreSQL of its own, run by Debian's user for it; yields the arguments that psql connects with."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or shutil.which("runuser") is None:
        pytest.skip("needs PostgreSQL from Debian: apt-get install postgresql")
    import tempfile

    place, port = Path(tempfile.mkdtemp(prefix="postgres-")), studies.free_port()
    shutil.chown(place, "postgres", "postgres")

    def as_postgres(program, *arguments):
        command = ["runuser", "-u", "postgres", "--", programs[-1] / program, *arguments]
        return subprocess.run(command, cwd=place, check=True, capture_output=True, text=True).stdout

    as_postgres("initdb", "--auth=trust", "--pgdata", place / "data")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {place}"
    as_postgres("pg_ctl", "start", "-w", "-D", place / "data", "-l", place / "log", "-o", options)
    try:
        as_postgres("createdb", "-h", "127.0.0.1", "-p", str(port), "mlflow")
        yield (
            port,
            lambda query: as_postgres(
                "psql", "-h", "127.0.0.1", "-p", str(port), "-At", "-F", " ", "-c", query, "mlflow"
            ),
        )
    finally:
        as_postgres("pg_ctl", "stop", "-w", "-m", "fast", "-D", place / "data")
        shutil.rmtree(place)


def test_200_trials_of_50_epochs(database, tmp_path):
    database_port, query = database
    folder, port = studies.make_folder(tmp_path / "user"), studies.free_port()
    uri = f"http://127.0.0.1:{port}"
    backend = f"postgresql+psycopg2://postgres@127.0.0.1:{database_port}/mlflow"
    started = time.monotonic()
    with studies.tracking_server(folder, port, backend):
        studies.finish(studies.start(folder, "many", "--tracking-uri", uri), seconds=2400)
        seconds = time.monotonic() - started
        place = studies.study_folder(folder, "many")
        studies.expect_whole(place, uri, trials=200)
    recorded = studies.records(place)
    epochs = [line for lines in recorded.values() for line in lines if line["kind"] == "epoch"]
    assert len(epochs) == 200 * 51
    active = (
        "from runs join experiments using (experiment_id) "
        "where experiments.name = 'many' and runs.lifecycle_stage = 'active'"
    )
    assert query(f"select count(*), count(distinct run_uuid) {active}").split() == ["200", "200"]
    assert query(f"select runs.status, count(*) {active} group by 1").split() == ["FINISHED", "200"]
    per_key = dict(
        line.split() for line in query(
            f"select key, count(*) from metrics where run_uuid in (select run_uuid {active}) group by key"
        ).splitlines()
    )  # fmt: skip
    expected = {}
    drawn = {int(key.removeprefix("gsc_by_layer/epoch_")) for key in per_key if key.startswith("gsc_by_layer/")}
    for line in epochs:
        for name in line["metrics"]:
            expected[name] = expected.get(name, 0) + 1
        if line["epoch"] in drawn:
            name = f"gsc_by_layer/epoch_{line['epoch']:03d}"
            last = line["layers"][-1][0]
            rows = [row for row in line["layers"] if row[0] == last and row[3] is not None]
            expected[name] = expected.get(name, 0) + len(rows)
    expected |= dict.fromkeys(("final/train_error", "final/test_error", "final/log10_gsc"), 200)
    assert {key: int(count) for key, count in per_key.items()} == expected
    parameters = query(f"select count(*) from params where run_uuid in (select run_uuid {active})")
    assert int(parameters) == 200 * len(next(iter(recorded.values()))[0]["config"])
    print(
        f"\nPostgreSQL: 200 runs, {sum(expected.values())} metric points of {len(expected)} keys, {parameters.strip()} "
        f"params, as recorded; {seconds:.0f} s for training and sending"
    )
