"""Measured speeds → one page of tables."""

from pathlib import Path
from typing import Any


def write_page(results: dict[str, Any], path: Path) -> None:
    """Write the tables of whatever was measured."""
    machine = results["machine"]
    lines = ["# Speed", "", *(f"- {name}: {value}" for name, value in machine.items()), f"- data: {results['data']}"]
    lines += ["", "`docs/speed.md` says how to read this.", ""]
    tables = {
        "throughput": _throughput_table,
        "steps": _step_table,
        "probes": _probe_table,
        "overhead": _overhead_lines,
    }
    for part, write_table in tables.items():
        if part in results:
            lines += write_table(results[part])
            lines += _differences(results.get("machines", {}).get(part, machine), machine)
    path.write_text("\n".join(lines).rstrip() + "\n")


def _differences(own: dict[str, Any], last: dict[str, Any]) -> list[str]:
    """Say what was different when this part was measured, where others were measured later."""
    changed = [f"{name} {value}" for name, value in own.items() if value != last.get(name)]
    return [f"Measured with {', '.join(changed)}.", ""] if changed else []


def _throughput_table(rows: list[dict[str, Any]]) -> list[str]:
    rates = {row["label"]: row["trials_per_hour"] for row in rows}
    lines = [
        "## Trials per hour of the whole machine",
        "",
        "Depth 50, width 100, batch 128, relu-batch, Adam; (a) and (b) of the same precision where none is named.",
        "",
    ]
    lines += [
        "| contender | trials | epochs | seconds | of them start-up | trials/h | × (a) in fp32 | × (a) | × (b) "
        "| trials/h, once started |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        rate, precision = row["trials_per_hour"], row["label"].rpartition(" ")[2]
        bases = "(a) tutorial loop, fp32", f"(a) tutorial loop, {precision}", f"(b) in memory, {precision}"
        against = " | ".join(f"{rate / rates[base]:.2f}" if base in rates else "" for base in bases)
        lines.append(
            f"| {row['label']} | {row['trials']} | {row['epochs']} | {row['seconds']:.1f} | "
            f"{row['start_up_seconds']:.1f} | {rate:.0f} | {against} | "
            f"{row['trials'] / (row['seconds'] - row['start_up_seconds']) * 3600:.0f} |"
        )
    return [*lines, ""]


def _step_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## One step, on one core or GPU", ""]
    lines += ["| precision | depth | E | ms per trial and step | GFLOP/s | of peak | first step, s | peak memory, GB |"]
    lines += ["|---" * 8 + "|"]
    for row in rows:
        share, peak = row["gflop_per_second"] / row["peak_gflop_per_second"], row["peak_gigabytes"]
        lines.append(
            f"| {row['precision']} | {row['depth']} | {row['pack']} | {row['milliseconds']:.3g} | "
            f"{row['gflop_per_second']:.0f} | {share:.0%} | {row['first_step_seconds']:.1f} | {peak:.2f} |"
        )
    return [*lines, ""]


def _probe_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## What GSC probes cost", "", "Per trial; 128 images and 4 sign vectors a probe.", ""]
    lines += ["| network | depth | epochs | E | probes | ms each | probes, s | all else, s | ratio |", "|---" * 9 + "|"]
    for row in rows:
        lines.append(
            f"| {row['network']} | {row['depth']} | {row['epochs']} | {row['pack']} | {row['probes']} | "
            f"{row['milliseconds_per_probe']:.0f} | {row['probe_seconds']:.2f} | {row['training_seconds']:.1f} | "
            f"{row['ratio']:.1%} |"
        )
    return [*lines, ""]


def _overhead_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## What Ray, MLflow and the records add", ""]
    lines += ["| trials | E | seconds each, bare | bare, s | whole study, s | added | without MLflow, s | added |"]
    lines += ["|---" * 8 + "|"]
    for row in rows:
        bare = row.get("bare_seconds_in_turn", row.get("bare_seconds_twice", [row["bare_seconds"]]))
        without = row.get("study_seconds_without_mlflow")  # not measured in earlier results
        added = row.get("overhead_without_mlflow", without and without / row["bare_seconds"] - 1)
        cells = (
            *(row["trials"], row["pack"], f"{row['bare_seconds_per_trial']:.2f}"),
            " and ".join(f"{seconds:.1f}" for seconds in bare),
            *(f"{row['study_seconds']:.1f}", f"{row['overhead']:+.1%}"),
            *((f"{without:.1f}", f"{added:+.1%}") if without else ("", "")),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, ""]
