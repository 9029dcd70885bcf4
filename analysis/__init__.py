"""WHAT it means: runs in MLflow → tidy frames → estimates with uncertainty → figures → report.

For notebooks: `from analysis import load_study`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.load_runs import load_study
    from analysis.tidy_frames import StudyFrames

__all__ = ["StudyFrames", "load_study"]


def __getattr__(name: str) -> Any:
    """Import late: figures alone need no MLflow."""
    if name == "load_study":
        from analysis import load_runs

        return load_runs.load_study
    if name == "StudyFrames":
        from analysis import tidy_frames

        return tidy_frames.StudyFrames
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
