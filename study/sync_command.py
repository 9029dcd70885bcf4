"""A study's name → all of its records sent to MLflow; what is there already stays as it is."""

import contextlib
from pathlib import Path

from rich.console import Console

from study import run_log_schema as schema
from study.driver import hold_study, note_what_was_sent
from study.ledgers import known_as_sent, read_sent
from study.next_commands import sync_command
from study.run_sender import RunSender
from study.status_command import find_study, is_gone
from study.study_folder import StorageError, hold_file
from study.tracking import Connection, check_tracking
from study.tracking_uri import default_tracking_uri, without_secrets
from study.trial_record import check_same_data, read_start, read_status

SOME_UNSENT = 1


def sync_study(storage: Path, name: str, tracking_uri: str | None, console: Console) -> int:
    """Send what MLflow lacks of a study's records; returns the exit status.

    A trial whose run holds its whole record is left alone; any other run of it is replaced, a complete one only once
    the record has ended. Sending twice changes nothing. A study that is being run sends by itself, and is refused here.

    Raises:
        ValueError: there is no such study or no record in it, or the store cannot be used for it.
    """
    folder = find_study(storage, name)
    tracking_uri = tracking_uri or default_tracking_uri(storage)
    with hold_file(folder.tracking_lock):
        check_tracking(tracking_uri)
    with hold_study(folder, console):
        starts = {path.stem: read_start(path) for path in sorted((folder.path / "trials").glob("*.jsonl"))}
        readable = {trial_id: start for trial_id, start in starts.items() if start is not None}
        data = [_data_tags(start["environment"]) for start in readable.values()]
        data_tags = next((tags for tags in data if schema.TAG_DATA_CHECKSUM in tags), None)
        if data_tags is None:
            raise ValueError(f"name: study {name!r} has no records yet; run it first")
        for tags in data:
            check_same_data(name, tags, data_tags)
        epochs = max(start["config"]["epochs"] for start in readable.values())
        connection = Connection(tracking_uri, folder, data_tags, epochs)
        with console.status("Sending …"), RunSender(connection.open, tracking_uri) as sender:
            sender.send(list(readable))
        shown = without_secrets(tracking_uri, tracking_uri)
        note_what_was_sent(folder, shown, sender.sent, console)
    told = f"{len(readable) - len(sender.unsent)} of {len(readable)} records are in MLflow: {shown}"
    console.print(told, highlight=False, markup=False, soft_wrap=True)
    with contextlib.suppress(OSError, StorageError):  # the ledger is of no other use here, and its loss was told
        others = sorted(set(read_sent(folder)) - {shown})
        ended = [name for name in readable if others and read_status(folder.record_path(name)) is not None]
        for store in others:
            before = len(known_as_sent(folder, store, ended))
            lacks_some = before < len(ended) and not is_gone(store)
            more = f"; for the rest: {sync_command(folder, store)}" if lacks_some else ""
            elsewhere = f"{before} of {len(ended)} ended trials were sent to {store} before{more}"
            console.print(elsewhere, highlight=False, markup=False, soft_wrap=True)
    if sender.unsent:
        console.print(f"The rest could not be sent ({sender.problem}).", style="yellow", markup=False)
    return SOME_UNSENT if sender.unsent else 0


def _data_tags(environment: dict[str, str]) -> dict[str, str]:
    names = (schema.TAG_DATA, schema.TAG_DATA_CHECKSUM, schema.TAG_CHANCE_ERROR)
    return {name: environment[name] for name in names if name in environment}
