"""Explosion rates at several dilution levels → does r_k² = 1 + (r_0² − 1)/(k² + 1) hold?"""

import dataclasses

import pandas as pd

from analysis.tidy_frames import StudyFrames

LAW_COLUMNS = [
    "network", "dilution", "depth", "seeds", "growth", "growth_low", "growth_high", "predicted_growth",
    "excess", "excess_low", "excess_high", "p_value", "note",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DilutionLaw:
    """The law tested per network, in the late half of its deepest networks before training.

    `table` has LAW_COLUMNS, a row per network and dilution: `growth` is χ_k = r_k², `predicted_growth` the law's from
    the χ of the smallest k; `excess` is (χ_k − 1)(k² + 1) less the same at the smallest k: 0 if the law holds.
    `p_value` is of excess = 0, Holm-corrected within the network. `verdicts` says it per network in a sentence.
    """

    table: pd.DataFrame
    verdicts: dict[str, str]
    note: str = ""


def check_dilution_law(frames: StudyFrames) -> DilutionLaw:
    """Test the law on the untrained networks of a study."""
    raise NotImplementedError
