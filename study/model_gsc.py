"""Any `torch.nn.Module` and a batch → GSC from its layers to its output, and how far its domain has collapsed.

The model is copied, so that its mode, buffers and gradients stay as they are, and the copy runs in float64 in
evaluation mode, but for batch normalization, which takes the moments of this batch, and instance normalization, which
takes those of each example. States are the outputs of modules, caught by hooks and flattened over the whole batch;
inputs and outputs of nonlinearities are caught whether these are modules or functions. See `study.gradient_scale` for
the definition and its source.

The explosion rate is that of the states that all information passes through: in a chain the outputs of its layers, in a
residual network those of its blocks, and not what is computed inside a branch, whose size says nothing of the stream.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from scipy import stats

from study.gradient_scale import estimate_gradient_scale, log_norm, log_size, sign_vectors
from study.gsc_reading import NO_RATE
from study.model_twin import BATCH_NORMALIZATION, copy_for_measurement, default_names, names_of, prepare_batch, unwrap
from study.random_streams import make_generator
from study.state_reader import StateReader, choose_path, find_output, reaches
from study.trial_config import one_line

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class LayerGsc:
    """One state: a row of the table.

    `layer` counts the states in the order in which they were computed, 0 being the input; `width` is its number of
    entries per example; `log10_gsc` is −inf where no gradient arrives, and `standard_error` is that of the logarithm
    over probe vectors, 0 when exact. `on_path`: the explosion rate is taken over this state. The other three describe
    the input of the nonlinearity that follows it, before the next state, and are None where there is none.
    """

    layer: int
    name: str
    width: int
    log10_gsc: float
    standard_error: float
    on_path: bool
    preactivation_std: float | None
    sign_diversity: float | None
    linear_fit_error: float | None


@dataclasses.dataclass(frozen=True)
class ModelGsc:
    """GSC from the states of a model to its target.

    `explosion_rate` is the mean growth of GSC per state between the first and the last state that is `on_path`; nan
    when there are fewer than two. `low` and `high` are its 95% interval over probe vectors: of the measurement on this
    model and batch, not over other initializations. `output_shape` is that of the model's output. `bypassed` names the
    states on the path that information passes by, because `modules` asked for them. GSC is unsquared.
    """

    target: str
    output_shape: tuple[int, ...]
    layers: list[LayerGsc]
    explosion_rate: float
    low: float
    high: float
    bypassed: tuple[str, ...] = ()

    def to_frame(self) -> "pd.DataFrame":
        """Return the table as a data frame, one row per state."""
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(layer) for layer in self.layers])

    def __str__(self) -> str:
        columns = ("layer", "name", "width", "log10_gsc", "s.e.", "on path", "std", "signs", "fit error")
        rows = [columns, *([_write(value) for value in dataclasses.astuple(layer)] for layer in self.layers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        rate = f"explosion rate per state: {self.explosion_rate:.4g} ({self.low:.4g} to {self.high:.4g})"
        if math.isnan(self.explosion_rate):
            rate = NO_RATE
        return "\n".join([f"GSC to the {self.target}", *lines, rate, *say_bypassed(self.bypassed)])


def measure_gsc(
    model: torch.nn.Module,
    batch: Any,
    *,
    modules: Sequence[str | torch.nn.Module] | None = None,
    loss: Callable[[torch.Tensor], torch.Tensor] | None = None,
    probe_vectors: int = 10,
    independent_examples: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> ModelGsc:
    """Measure GSC from the outputs of modules to the output of a model, or to its losses.

    Args:
        model: any module; it is left as it is (hooks that are registered on it run on the copy, too).
        batch: what the model is called with: a tensor whose first dimension is the examples, a tuple of arguments or
            a dict of keyword arguments. The first floating-point tensor in it is state 0.
        modules: those to read, or their names; all of them are then on the path. By default all that own a weight of
            two or more dimensions and are called, and, where most of these lie in branches, the blocks between which
            everything passes. A module that is called several times is read each time, later as `name#2` and so on.
        loss: maps the model's output to losses, of one example each, [B], which are then the target.
        probe_vectors: number of random sign vectors, at least 2.
        independent_examples: no example's output depends on another example, and the output's first dimension is the
            examples: one-hot vectors are taken, and the result is exact. Batch normalization makes examples depend on
            each other; whatever else does is for you to know.
        seed: of the sign vectors.
        dtype: precision of the copy; another one only where a device lacks float64 or the model casts by itself.

    Raises:
        ValueError: the model cannot be measured, for a reason given in one line.
    """
    if not isinstance(probe_vectors, int) or probe_vectors < 2:
        raise ValueError(f"probe_vectors: {probe_vectors} is out of range; give at least 2, whose spread is the error")
    original = unwrap(model)
    twin = copy_for_measurement(original, dtype)
    weights, blocks = (names_of(original, modules), []) if modules is not None else default_names(original)
    if independent_examples and any(isinstance(module, BATCH_NORMALIZATION) for module in twin.modules()):
        raise ValueError("independent_examples: batch normalization couples the examples; leave it out")
    arguments, keywords, examples = prepare_batch(batch, twin, dtype)
    reader = StateReader(arguments, keywords, blocks)
    with reader.reading(twin, [*weights, *blocks]):
        output = _run(twin, arguments, keywords, dtype)
    reader.check(weights, all_must_be_called=modules is not None)
    target = _find_target(output, examples)
    last_is_output = _same_values(reader.states[-1], target)
    output_shape = tuple(target.shape)
    cuts = [not reaches(target, reader.states[0], without=state) for state in reader.states]
    if loss is not None:
        target = _apply_loss(loss, target, examples)
    log_norms, exact = _pull_back(target, reader.states, probe_vectors, independent_examples, examples, seed)
    sizes = torch.stack([log_size(state.detach()[None]) for state in reader.states], dim=1)
    scale = estimate_gradient_scale(log_norms[:, None], sizes, log_norm(target.detach()[None]), exact)
    shown, path = choose_path(reader, cuts if modules is None else [True] * len(cuts))
    if last_is_output:
        path = [state for state in path if state != len(reader.states) - 1]
    path = [state for state in path if scale.log10_gsc[0, state].isfinite()]
    rows = [
        LayerGsc(
            layer=layer,
            name=reader.names[state],
            width=reader.states[state].numel() // examples,
            log10_gsc=scale.log10_gsc[0, state].item(),
            standard_error=scale.standard_error[0, state].item(),
            on_path=state in path,
            **reader.domain_after(state, before=after),
        )
        for layer, (state, after) in enumerate(zip(shown, [*shown[1:], len(reader.states)], strict=True))
    ]
    rate = _fit_rate(log_norms[:, path], sizes[0, path], exact)
    bypassed = tuple(reader.names[state] for state in path if not cuts[state]) if len(path) > 1 else ()
    return ModelGsc("output" if loss is None else "losses", output_shape, rows, *rate, bypassed)


def say_bypassed(names: Sequence[str]) -> list[str]:
    """Return a line of warning about states in the rate that information passes by, if there are any."""
    few = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"not everything passes {few}: this rate is not that of the whole network"] if names else []


def _run(twin: torch.nn.Module, arguments: list[Any], keywords: dict[str, Any], dtype: torch.dtype) -> Any:
    """Return what the copy returns, leaving the random state as it is; raises ValueError where it does not run."""
    devices = sorted({tensor.device.index for tensor in twin.parameters() if tensor.is_cuda})
    # cuDNN's recurrent kernels have no backward pass in evaluation mode.
    recurrent = any(isinstance(module, torch.nn.RNNBase) for module in twin.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    with torch.enable_grad(), torch.random.fork_rng(devices), cudnn:
        try:
            return twin(*arguments, **keywords)
        except Exception as error:  # whatever a model raises
            casts = "dtype" in str(error) and dtype == torch.float64
            hint = "; does it cast by itself? then give dtype=torch.float32 (--dtype float32)" if casts else ""
            raise ValueError(f"model: does not run on this batch in {dtype} ({one_line(error)}{hint})") from error


def _find_target(output: Any, examples: int) -> torch.Tensor:
    """Return the tensor of an output whose GSC is wanted; raises ValueError where it has none."""
    target = find_output(output, examples)
    if target is None:
        raise ValueError("model: its output holds no floating-point tensor of examples; measure one that does")
    if not target.requires_grad:
        raise ValueError("model: no gradient flows to its output (is it detached, or computed under no_grad?)")
    if not target.isfinite().all():
        raise ValueError("model: its output on this batch is not finite; measure it where it is")
    if not target.any():
        raise ValueError("model: its output is 0 (a head that starts at 0?) and has no relative change; initialize it")
    return target


def _apply_loss(loss: Callable[[torch.Tensor], torch.Tensor], output: torch.Tensor, examples: int) -> torch.Tensor:
    """Return the losses of the examples, [B]; raises ValueError where there are none."""
    try:
        losses = loss(output)
    except Exception as error:  # whatever a loss raises
        raise ValueError(f"loss: does not run on the output in {output.dtype} ({one_line(error)})") from error
    if not isinstance(losses, torch.Tensor) or losses.shape != (examples,):
        shape = list(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise ValueError(f"loss: returned {shape}; let it return one number per example, [{examples}]")
    if not losses.requires_grad:
        raise ValueError("loss: no gradient flows through it (is it detached?)")
    return losses


def _pull_back(
    target: torch.Tensor,
    states: list[torch.Tensor],
    probe_vectors: int,
    independent_examples: bool,
    examples: int,
    seed: int,
) -> tuple[torch.Tensor, bool]:
    """Return ln ‖VᵀJ‖ for each probe vector and state, [vectors, S], and whether the vectors are exact ones."""
    if independent_examples:
        if len(target) != examples:
            raise ValueError(
                f"independent_examples: the output's first dimension is {len(target)}, not the {examples} examples; "
                "leave it out for sign vectors"
            )
        size = target[0].numel()
        one_hot = torch.eye(size, dtype=target.dtype, device=target.device).view(size, *target.shape[1:])
        vectors = [unit.expand_as(target) for unit in one_hot]
    else:
        vectors = list(sign_vectors(target.detach(), probe_vectors, make_generator(seed, "model probe signs")))
    log_norms = []
    for vector in vectors:
        try:
            gradients = torch.autograd.grad(target, states, vector, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise ValueError(f"model: gradients cannot be taken through it ({one_line(error)})") from error
        log_norms.append(
            torch.cat(
                [
                    log_norm((torch.zeros_like(state) if gradient is None else gradient)[None])
                    for gradient, state in zip(gradients, states, strict=True)
                ]
            )
        )
    return torch.stack(log_norms), independent_examples


def _fit_rate(log_norms: torch.Tensor, log_sizes: torch.Tensor, exact: bool) -> tuple[float, float, float]:
    """Return the growth of GSC per state between the first and last of these, and its jackknife t interval."""
    vectors, states = log_norms.shape
    if states < 2:
        return math.nan, math.nan, math.nan

    def log_rate(chosen: torch.Tensor) -> float:
        log_gsc = 0.5 * torch.logsumexp(2 * chosen, dim=0) + log_sizes
        return float(log_gsc[0] - log_gsc[-1]) / (states - 1)

    mean = log_rate(log_norms)
    if exact or not math.isfinite(mean):
        rate = math.exp(mean) if math.isfinite(mean) else math.nan
        return rate, rate, rate
    everything = torch.arange(vectors)
    left_out = [log_rate(log_norms[everything != vector]) for vector in range(vectors)]
    centre = sum(left_out) / vectors
    error = math.sqrt((vectors - 1) / vectors * sum((value - centre) ** 2 for value in left_out))
    half = float(stats.t.ppf(0.975, vectors - 1)) * error
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def _same_values(state: torch.Tensor, target: torch.Tensor) -> bool:
    """Say whether a state is the output itself, handed on as a copy or in another shape."""
    return state.numel() == target.numel() and torch.equal(state.detach().flatten(), target.detach().flatten())


def _write(value: float | str | bool | None) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
