"""When measurements are taken, and which of them are drawn layer by layer in MLflow."""

EARLY_STEPS = (1, 3, 10)
"""Optimizer steps after which GSC is measured besides every epoch: it changes fastest at the very start."""

LAYER_EPOCHS = 8
"""At most so many epochs are sent to MLflow layer by layer; the parquet artifact holds all."""


def is_early_step(steps_done: int, steps_per_epoch: int) -> bool:
    """Say whether to probe after this many steps; the end of an epoch is probed anyway."""
    return steps_done in EARLY_STEPS and steps_done % steps_per_epoch != 0


def layer_metric_epochs(epochs: int) -> list[int]:
    """Return the epochs, 0 and the last among them, that are drawn layer by layer; evenly spaced when there are many.

    `epochs` is the longest training in the study, so that all of its trials are drawn at the same epochs.
    """
    count = min(epochs + 1, LAYER_EPOCHS)
    return sorted({round(place * epochs / max(count - 1, 1)) for place in range(count)})
