"""Records of a study → its final test errors as one table in the terminal."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from study import run_log_schema as schema
from study.console_tables import make_plain_table, print_whole
from study.rate_choice import rank_rates
from study.trial_config import FIELD_NAMES, TrialConfig
from study.trial_record import StudyFolder, read_lines

OWN_PLACES = ("depth", "dilution", "optimizer", "learning_rate", "seed", "normalization", "activation")


@dataclasses.dataclass(frozen=True)
class _Ending:
    """Final errors of a trial, chance where it diverged and nan where there are none; `text` says how it ended."""

    text: str
    train_error: float = math.nan
    test_error: float = math.nan


def print_summary(
    trials: Sequence[TrialConfig], statuses: Mapping[str, str | None], folder: StudyFolder, console: Console
) -> None:
    """Print the final test errors."""
    if any(trial.epochs for trial in trials):
        console.print("Final test error, mean over seeds at the learning rate with the lowest training error:")
    else:
        console.print("Test error of the untrained networks, mean over seeds:")
    print_whole(_make_table(trials, statuses, folder), console)


def _make_table(trials: Sequence[TrialConfig], statuses: Mapping[str, str | None], folder: StudyFolder) -> Table:
    """Return a table of final test errors: network, optimizer and dilution k down, depth across.

    Networks are named by what differs within the study, besides what has a place of its own in the table.

    A cell shows the mean over seeds at the learning rate with the lowest final training error (so that the test error
    is not selected upon), compared as in a report: diverged trials count as chance, see `rate_choice` for missing ones.
    A diverged or failed trial is named where none of that rate ended well. `statuses` is by trial_id.
    """
    cells: dict[tuple[str, str, float], dict[int, dict[float, dict[int, _Ending]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    differing = [name for name in FIELD_NAMES if name not in OWN_PLACES and _differs(trials, name)]
    for trial in trials:
        extra = "".join(f" {name}={getattr(trial, name)}" for name in differing)
        row = f"{trial.normalization}-{trial.activation}{extra}", trial.optimizer, trial.dilution
        cells[row][trial.depth][trial.learning_rate][trial.seed] = _read_ending(statuses[trial.trial_id], folder, trial)
    depths = sorted({trial.depth for trial in trials})
    table = make_plain_table()
    table.add_column("network")
    table.add_column("optimizer")
    table.add_column("k", justify="right")
    for depth in depths:
        table.add_column(f"depth\n{depth}", justify="right")
    for (network, optimizer, dilution), by_depth in sorted(cells.items()):
        texts = [_write_best(by_depth[depth]) if depth in by_depth else "" for depth in depths]
        table.add_row(network, optimizer, f"{dilution:g}", *texts)
    return table


def _write_best(endings: Mapping[float, Mapping[int, _Ending]]) -> str:
    """Return the mean test error, or how trials ended, at the learning rate that trained best, of several the smallest.

    `endings` is by learning rate and seed.
    """
    rates, seeds = sorted(endings), sorted({seed for by_seed in endings.values() for seed in by_seed})
    none = _Ending("not run")
    errors = [[endings[rate].get(seed, none).train_error for seed in seeds] for rate in rates]
    best = endings[rates[int(rank_rates(np.array(errors)).argmin())]].values()
    known = [ending.test_error for ending in best if math.isfinite(ending.test_error)]
    ended_well = any(not ending.text for ending in best)
    return f"{sum(known) / len(known):.3f}" if ended_well else min(ending.text for ending in best)


def _differs(trials: Sequence[TrialConfig], name: str) -> bool:
    """Say whether a field has several values with one optimizer; others (momentum, say) belong to the optimizer."""
    values = {(trial.optimizer, getattr(trial, name)) for trial in trials}
    return len(values) > len({trial.optimizer for trial in trials})


def _read_ending(status: str | None, folder: StudyFolder, trial: TrialConfig) -> _Ending:
    lines = [line for line, _ in read_lines(folder.record_path(trial.trial_id))]
    epochs = [line["metrics"] for line in lines if line["kind"] == "epoch"]
    if status == schema.STATUS_DIVERGED and trial.epochs:
        told = lines[0]["environment"] if lines else {}
        chance = float(told.get(schema.TAG_CHANCE_ERROR, schema.USUAL_CHANCE_ERROR))
        return _Ending(status, chance, chance)
    if status != schema.STATUS_OK:
        return _Ending(status or ("unfinished" if lines else "not run"))
    if not lines or lines[-1]["kind"] != "end":  # lost, or cut off after it was sent
        return _Ending("in MLflow")
    if not epochs:
        return _Ending("not finite")
    train_error, test_error = (epochs[-1].get(name) for name in (schema.TRAIN_ERROR, schema.TEST_ERROR))
    return _Ending("not finite") if None in (train_error, test_error) else _Ending("", train_error, test_error)
