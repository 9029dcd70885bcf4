"""A study → its estimates, each made when it is first asked for, so that a script pays for what it prints alone."""

import functools

import pandas as pd

from analysis import fits
from analysis.best_dilution import BestDilutions, estimate_best_dilutions
from analysis.best_learning_rates import Outcomes, choose_outcomes
from analysis.depth_rules import DepthRules, compare_depth_rules
from analysis.dilution_law import DilutionLaw, check_dilution_law
from analysis.explosion_rates import RateEstimates, estimate_explosion_rates
from analysis.growth_forms import FormComparisons, compare_growth_forms
from analysis.importance import Importance, estimate_importance
from analysis.pareto import ParetoFront, estimate_pareto_front
from analysis.tidy_frames import StudyFrames
from analysis.tradeoff import Tradeoff, fit_tradeoff
from analysis.trainable_depth import TrainableDepths, estimate_trainable_depths


class Findings:
    """What the analysis estimates of one study. `failure_error` None leaves the choice to the estimators."""

    def __init__(self, frames: StudyFrames, failure_error: float | None = None) -> None:
        """Raises ValueError when no trial measured anything, so that there is nothing to estimate."""
        if frames.epochs.empty:
            raise ValueError(
                f"study: no trial of {frames.name!r} measured anything before it failed; see tag error in MLflow"
            )
        self.frames, self._failure_error = frames, failure_error

    @functools.cached_property
    def rates(self) -> RateEstimates:
        """Explosion rates before training."""
        return estimate_explosion_rates(self.frames)

    @functools.cached_property
    def rates_over_epochs(self) -> RateEstimates:
        """Explosion rates at every epoch."""
        return estimate_explosion_rates(self.frames, epochs=None)

    @functools.cached_property
    def forms(self) -> FormComparisons:
        """Forms of growth compared."""
        return compare_growth_forms(self.frames)

    @functools.cached_property
    def law(self) -> DilutionLaw:
        """The dilution law tested."""
        return check_dilution_law(self.frames)

    @functools.cached_property
    def profiles(self) -> pd.DataFrame:
        """GSC by layer, before and after training."""
        return fits.average_profiles(self.frames)

    @functools.cached_property
    def errors(self) -> pd.DataFrame:
        """Final errors at the best learning rates."""
        return fits.tabulate_final_errors(self.frames)

    @functools.cached_property
    def outcomes(self) -> Outcomes:
        """What each seed reached with the learning rate that the others found best."""
        return choose_outcomes(self.frames, self._failure_error)

    @functools.cached_property
    def depths(self) -> TrainableDepths:
        """Trainable depths."""
        return estimate_trainable_depths(self.frames, self._failure_error)

    @functools.cached_property
    def rules(self) -> DepthRules:
        """Rules that predict where training fails."""
        return compare_depth_rules(self.frames, self._failure_error)

    @functools.cached_property
    def tradeoff(self) -> Tradeoff:
        """What tells failing trainings from others."""
        return fit_tradeoff(self.frames, self._failure_error)

    @functools.cached_property
    def best_dilutions(self) -> BestDilutions:
        """The dilution of the smallest error at each depth."""
        return estimate_best_dilutions(self.frames, self._failure_error)

    @functools.cached_property
    def front(self) -> ParetoFront:
        """Who is beaten by nobody in explosion, pseudo-linearity and error."""
        return estimate_pareto_front(self.frames)

    @functools.cached_property
    def importance(self) -> Importance:
        """Which parameters the final error depends on."""
        return estimate_importance(self.frames)
