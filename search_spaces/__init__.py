"""WHAT is swept: name → a function without arguments that returns the trials of a study.

To add a space: a file with its function, and its line in SPACES.
"""

from collections.abc import Callable

from search_spaces.demo import demo
from search_spaces.depth import depth
from search_spaces.dilution import dilution
from search_spaces.rescue import rescue
from search_spaces.tradeoff import tradeoff
from study.trial_config import TrialConfig

SPACES: dict[str, Callable[[], list[TrialConfig]]] = {
    "demo": demo,
    "depth": depth,
    "dilution": dilution,
    "rescue": rescue,
    "tradeoff": tradeoff,
}
