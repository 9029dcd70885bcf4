"""Records of a study → its final test errors as one table in the terminal."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.table import Table

from study import run_log_schema as schema
from study.trial_config import FIELD_NAMES, TrialConfig
from study.trial_record import StudyFolder, read_lines

OWN_PLACES = ("depth", "dilution", "optimizer", "learning_rate", "seed", "normalization", "activation")


def make_summary_table(trials: Sequence[TrialConfig], statuses: Mapping[str, str | None], folder: StudyFolder) -> Table:
    """Return a table of final test errors: network, optimizer and dilution k down, depth across.

    Networks are named by what differs within the study, besides what has a place of its own in the table.

    Where several trials share a cell (learning rates, seeds), it shows the lowest; a trial that diverged or failed
    counts only where no other trial of its cell ended well, and is named so. `statuses` is by trial_id.
    """
    cells: dict[tuple[str, str, float], dict[int, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    differing = [name for name in FIELD_NAMES if name not in OWN_PLACES and _differs(trials, name)]
    for trial in trials:
        extra = "".join(f" {name}={getattr(trial, name)}" for name in differing)
        row = f"{trial.normalization}-{trial.activation}{extra}", trial.optimizer, trial.dilution
        cells[row][trial.depth].append(_final_test_error(statuses[trial.trial_id], folder, trial))
    depths = sorted({trial.depth for trial in trials})
    table = Table()
    table.add_column("network", no_wrap=True)
    table.add_column("optimizer")
    table.add_column("k", justify="right")
    for depth in depths:
        table.add_column(f"depth {depth}", justify="right")
    for (network, optimizer, dilution), by_depth in sorted(cells.items()):
        texts = [min(by_depth[depth])[1] if depth in by_depth else "" for depth in depths]
        table.add_row(network, optimizer, f"{dilution:g}", *texts)
    return table


def _differs(trials: Sequence[TrialConfig], name: str) -> bool:
    """Say whether a field has several values with one optimizer; others (momentum, say) belong to the optimizer."""
    values = {(trial.optimizer, getattr(trial, name)) for trial in trials}
    return len(values) > len({trial.optimizer for trial in trials})


def _final_test_error(status: str | None, folder: StudyFolder, trial: TrialConfig) -> tuple[float, str]:
    """Return the error (infinite if the trial did not end well) and its text."""
    lines = [line for line, _ in read_lines(folder.record_path(trial.trial_id))]
    errors = [line["metrics"].get(schema.TEST_ERROR) for line in lines if line["kind"] == "epoch"]
    if status == schema.STATUS_OK:
        if not errors:
            return math.inf, "in MLflow"
        return (math.inf, "not finite") if errors[-1] is None else (errors[-1], f"{errors[-1]:.3f}")
    return math.inf, status or ("unfinished" if lines else "not run")
