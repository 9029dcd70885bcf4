"""Final errors of bf16, fp32 and a plain PyTorch twin over seeds: `python -m benchmarks.agreement`.

The three differ in rounding and the twin also in its random draws, so single trials differ; their distributions must
not. Prints the mean difference of the final errors from those of fp32 with its 95% interval: paired over seeds for
bf16, which draws what fp32 draws; Welch's for the twin.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from benchmarks.contenders import standardise, train_in_memory
from benchmarks.images import load_or_exit
from benchmarks.machine import describe_machine
from study import run_log_schema as schema
from study.datasets import Dataset
from study.processor import prepare_processor
from study.train_loop import train_pack
from study.trial_config import TrialConfig

RESULTS = Path(__file__).parent / "results"


def train_ours(trials: list[TrialConfig], dataset: Dataset) -> dict[str, list[float]]:
    """Return the final errors of all trials, by metric."""
    *_, last = train_pack(trials, dataset)
    return {name: [member.metrics[name] for member in last] for name in (schema.TRAIN_ERROR, schema.TEST_ERROR)}


def train_twins(trials: list[TrialConfig], dataset: Dataset) -> dict[str, list[float]]:
    """Return the final errors of plain PyTorch."""
    errors: dict[str, list[float]] = {schema.TRAIN_ERROR: [], schema.TEST_ERROR: []}
    splits = standardise(dataset, "cpu")
    for trial in trials:
        torch.manual_seed(trial.seed)
        for name, error in zip(errors, train_in_memory(trial, splits, "cpu"), strict=True):
            errors[name].append(error)
    return errors


def main() -> None:
    """Train, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="images:data/cifar10")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    dataset = load_or_exit(options.data)
    prepare_processor()
    seeds = range(options.seeds)
    fp32, bf16 = (
        [
            TrialConfig(depth=options.depth, normalization="batch", epochs=options.epochs, precision=name, seed=seed)
            for seed in seeds
        ]
        for name in ("fp32", "bf16")
    )
    errors = {"fp32": train_ours(fp32, dataset), "bf16": train_ours(bf16, dataset), "twin": train_twins(fp32, dataset)}
    rows = []
    for metric, base in errors["fp32"].items():
        paired = stats.ttest_rel(errors["bf16"][metric], base)
        welch = stats.ttest_ind(errors["twin"][metric], base, equal_var=False)
        for other, test in (("bf16", paired), ("twin", welch)):
            interval = test.confidence_interval(0.95)
            row = {
                "metric": metric,
                "pair": f"{other} - fp32",
                "mean_fp32": float(np.mean(base)),
                "difference": float(np.mean(errors[other][metric]) - np.mean(base)),
                "low": float(interval.low),
                "high": float(interval.high),
            }
            rows.append(row)
            print(
                f"{metric:<12} {row['pair']:<12} fp32 {row['mean_fp32']:.4f}, difference {row['difference']:+.4f} "
                f"({row['low']:+.4f} to {row['high']:+.4f})"
            )
    machine = describe_machine()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"agreement_cpu_{machine['date']}.json"
    path.write_text(json.dumps({"machine": machine, **vars(options), "errors": errors, "rows": rows}, indent=2) + "\n")
    print(f"Recorded in {path}")


if __name__ == "__main__":
    main()
