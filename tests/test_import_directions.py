"""Who may import whom; what each package is for depends on it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("study", "search_spaces", "analysis")
OURS = {f"{package}.{path.stem}": path for package in PACKAGES for path in (ROOT / package).glob("*.py")}
ONLY = {
    "ray": {"study.cluster", "study.lean_ray", "study.sweep"},
    "mlflow": {"study.run_log", "analysis.load_runs"},
    "matplotlib": {name for name in OURS if name.startswith("analysis.figure_") or name.endswith("figures")},
}
BARE = "study.train_loop"
"""It and all below it must run where only torch and numpy are installed."""
BARE_LIBRARIES = {"torch", "numpy"}
LATE = {"filelock", "torchvision"}
"""Imported inside functions that a bare machine does not call."""


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Names of the modules a file imports, `from a import b` as both a and a.b."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", sorted(OURS))
def test_directions(module):
    names = imported(OURS[module])
    package = module.partition(".")[0]
    for library, files in ONLY.items():
        assert library not in roots(names) or module in files, f"{module} imports {library}"
    ours = {name for name in names if name in OURS}
    if package == "search_spaces":
        assert not roots(names) & {"torch", "ray", "mlflow", "analysis"}
        assert {name for name in ours if name.startswith("study.")} <= {"study.trial_config"}
    if package == "analysis":
        allowed = {"study.run_log_schema", "study.tracking_uri", "study.mean_field", "study.one_line_errors"}
        allowed |= {"study.rate_choice"}
        assert {name for name in ours if name.startswith("study.")} <= allowed
        assert not roots(names) & {"torch", "ray", "search_spaces"}
    if package == "study":
        figures_alone = {name for name in names if name.startswith("analysis")} <= {
            "analysis.figures",
            "analysis.figures.draw_measurement",
        }
        assert "analysis" not in roots(names) or (module == "study.__main__" and figures_alone)
        assert "search_spaces" not in roots(names) or module == "study.__main__"


def test_the_train_loop_needs_torch_and_numpy_alone():
    seen, todo = set(), [BARE]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        names = imported(OURS[module])
        todo += [name for name in names if name in OURS]
        third_party = roots(names) - set(PACKAGES) - set(sys.stdlib_module_names)
        assert third_party - LATE <= BARE_LIBRARIES, f"{module} imports {third_party - LATE - BARE_LIBRARIES}"
        assert not roots(imported(OURS[module], top_level_only=True)) & LATE, f"{module} imports {LATE} too early"
    assert {"study.network", "study.datasets", "study.probes"} <= seen


@pytest.mark.parametrize("module", ["search_spaces", "study", "study.trial_config", "study.driver"])
def test_what_checks_a_request_does_not_load_torch(module):
    code = f"import sys, {module}; sys.exit(int(any(name in sys.modules for name in ('torch', 'ray', 'mlflow'))))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_driver_trains_without_torch():
    code = "import sys, study.training_session; sys.exit(int('torch' in sys.modules) + 2 * ('ray' not in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_rules_can_fail(tmp_path):
    path = tmp_path / "breach.py"
    path.write_text("def f():\n    import ray.tune\n    from study import sweep\n")
    assert "ray" in roots(imported(path))
    assert "study.sweep" in imported(path)
