"""Share of training time that GSC probes take at the default schedule: `python -m benchmarks.probe_cost`.

Probes and training are timed in the same run, so that a noisy machine slows both. Training time is everything else
that a trial does: steps and evaluation of both splits.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.images import load_or_exit
from benchmarks.machine import describe_machine
from study import train_loop
from study.datasets import Dataset
from study.processor import prepare_processor
from study.trial_config import TrialConfig

NETWORKS = (("batch", "relu"), ("layer", "tanh"), ("none", "selu"))
RESULTS = Path(__file__).parent / "results"


def measure(dataset: Dataset, normalization: str, activation: str, depth: int, epochs: int, members: int) -> dict:
    """Train a pack; return seconds per trial in probes and in everything else, and their ratio."""
    trials = [
        TrialConfig(depth=depth, normalization=normalization, activation=activation, epochs=epochs, seed=seed)
        for seed in range(members)
    ]
    in_probes, probes = 0.0, 0
    probe_members = train_loop.probe_members

    def timed(*arguments: Any) -> Any:
        nonlocal in_probes, probes
        started = time.perf_counter()
        result = probe_members(*arguments)
        in_probes += time.perf_counter() - started
        probes += 1
        return result

    started = time.perf_counter()
    with mock.patch.object(train_loop, "probe_members", timed):
        for _ in train_loop.train_pack(trials, dataset):
            pass
    training = time.perf_counter() - started - in_probes
    return {
        "network": f"{normalization}-{activation}",
        "depth": depth,
        "epochs": epochs,
        "members": members,
        "probes": probes,
        "probe_seconds_per_trial": in_probes / members,
        "training_seconds_per_trial": training / members,
        "ratio": in_probes / training,
    }


def main() -> None:
    """Measure, print a table, record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="synthetic", help="as for `python -m study run` (default: %(default)s)")
    parser.add_argument("--data-folder", type=Path, default=Path("data"))
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--members", type=int, default=16)
    options = parser.parse_args()
    dataset = load_or_exit(options.data, options.data_folder)
    prepare_processor()
    rows = []
    for network in NETWORKS:
        row = measure(dataset, *network, options.depth, options.epochs, options.members)
        rows.append(row)
        print(
            f"{row['network']:<11} depth {row['depth']}, {row['epochs']} epochs, {row['probes']} probes: "
            f"probes {row['probe_seconds_per_trial']:.2f} s, training {row['training_seconds_per_trial']:.2f} s, "
            f"ratio {row['ratio']:.1%}",
            flush=True,
        )
    machine = describe_machine()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"probe_cost_cpu_{machine['date']}.json"
    result = {"machine": machine, "images": len(dataset.train_labels), "rows": rows}
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Recorded in {path}")


if __name__ == "__main__":
    main()
