"""WHAT it means: runs in MLflow → tidy frames → estimates with uncertainty → figures → report.

For notebooks: `from analysis import load_study`.
"""

from analysis.load_runs import load_study
from analysis.tidy_frames import StudyFrames

__all__ = ["StudyFrames", "load_study"]
