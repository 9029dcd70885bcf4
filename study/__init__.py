"""How a trial runs: configuration → packs → train loop with GSC probes → records → MLflow.

For your own models: `from study import measure_gsc`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.model_gsc import measure_gsc

__all__ = ["measure_gsc"]


def __getattr__(name: str) -> Any:
    """Import late: search spaces import this package without torch."""
    if name in __all__:
        from study import model_gsc

        return getattr(model_gsc, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
