"""Any `torch.nn.Module` and a batch → GSC from its layers to its output, and how far its domain has collapsed.

The model is copied, so that its mode, buffers and gradients stay as they are, and the copy runs in float64 in
evaluation mode, but for batch normalization, which takes the moments of this batch. States are the outputs of modules,
caught by hooks and flattened over the whole batch; inputs and outputs of nonlinearities are caught whether these are
modules or functions. See `study.gradient_scale` for the definition and its source.
"""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from scipy import stats
from torch.overrides import TorchFunctionMode

from study.gradient_scale import estimate_gradient_scale, log_norm, log_size, sign_vectors
from study.random_streams import make_generator
from study.signal_domain import linear_fit_error, preactivation_std, sign_diversity
from study.trial_config import one_line

if TYPE_CHECKING:
    import pandas as pd

NONLINEARITY_NAMES = """
    relu relu_ relu6 leaky_relu leaky_relu_ prelu rrelu elu elu_ selu selu_ celu gelu silu mish softplus softsign tanh
    tanh_ sigmoid sigmoid_ hardtanh hardsigmoid hardswish logsigmoid tanhshrink
"""
NONLINEARITIES = frozenset(
    function
    for name in NONLINEARITY_NAMES.split()
    for namespace in (torch, torch.nn.functional, torch.Tensor)
    if (function := getattr(namespace, name, None)) is not None
)
INPUT = "input"


@dataclasses.dataclass(frozen=True)
class LayerGsc:
    """One state: a row of the table.

    `layer` counts the states in the order in which they were computed, 0 being the input; `width` is its number of
    entries per example; `log10_gsc` is −inf where no gradient arrives, and `standard_error` is that of the logarithm
    over probe vectors, 0 when exact. The other three describe the input of the nonlinearity that follows it, before
    the next state, and are None where there is none.
    """

    layer: int
    name: str
    width: int
    log10_gsc: float
    standard_error: float
    preactivation_std: float | None
    sign_diversity: float | None
    linear_fit_error: float | None


@dataclasses.dataclass(frozen=True)
class ModelGsc:
    """GSC from the states of a model to its target.

    `explosion_rate` is the mean growth of GSC per state between the first module read and the last one that is not
    the output itself, nan when there are fewer than two. `low` and `high` are its 95% interval over probe vectors:
    of the measurement on this model and batch, not over other initializations. GSC is unsquared.
    """

    target: str
    layers: list[LayerGsc]
    explosion_rate: float
    low: float
    high: float

    def to_frame(self) -> "pd.DataFrame":
        """Return the table as a data frame, one row per state."""
        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(layer) for layer in self.layers])

    def __str__(self) -> str:
        columns = ("layer", "name", "width", "log10_gsc", "s.e.", "std", "signs", "fit error")
        rows = [columns, *([_write(value) for value in dataclasses.astuple(layer)] for layer in self.layers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        rate = f"{self.explosion_rate:.4g} ({self.low:.4g} to {self.high:.4g})"
        return "\n".join([f"GSC to the {self.target}", *lines, f"explosion rate per layer: {rate}"])


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
        model: any module; it is left as it is.
        batch: what the model is called with: a tensor whose first dimension is the examples, a tuple of arguments or
            a dict of keyword arguments. The first floating-point tensor in it is state 0.
        modules: those to read, or their names; by default all that own a weight of two or more dimensions and are
            called. A module that is called several times is read each time, its later calls as `name#2` and so on.
        loss: maps the model's output to losses, of one example each, [B], which are then the target.
        probe_vectors: number of random sign vectors, at least 2.
        independent_examples: no example's output depends on another example, and the output's first dimension is the
            examples: one-hot vectors are taken, and the result is exact.
        seed: of the sign vectors.
        dtype: precision of the copy; another one only where a device lacks float64.

    Raises:
        ValueError: the model cannot be measured, for a reason given in one line.
    """
    if probe_vectors < 2:
        raise ValueError(f"probe_vectors: {probe_vectors} is out of range; give at least 2, whose spread is the error")
    original = _unwrap(model)
    twin = _copy_for_measurement(original, dtype)
    names = _names_of(original, modules)
    arguments, keywords, examples = _prepare_batch(batch, twin, dtype)
    reader = _StateReader(arguments, keywords)
    devices = sorted({tensor.device.index for tensor in twin.parameters() if tensor.is_cuda})
    with torch.enable_grad(), torch.random.fork_rng(devices), reader.reading(twin, names):
        try:
            output = twin(*arguments, **keywords)
        except Exception as error:  # whatever a model raises
            raise ValueError(f"model: does not run on this batch in {dtype} ({one_line(error)})") from error
    reader.check(names, all_must_be_called=modules is not None)
    target = _find_tensor(output)
    if target is None or not target.is_floating_point():
        raise ValueError("model: its output holds no floating-point tensor; measure a model that returns one")
    if not target.requires_grad:
        raise ValueError("model: no gradient flows to its output (is it detached, or computed under no_grad?)")
    is_output = [state is target or _same_values(state, target) for state in reader.states]
    if loss is not None:
        target = loss(target)
        if target.shape != (examples,):
            raise ValueError(
                f"loss: returned shape {tuple(target.shape)}; let it return one per example, ({examples},)"
            )
    log_norms, exact = _pull_back(target, reader.states, probe_vectors, independent_examples, examples, seed)
    sizes = torch.stack([log_size(state.detach()[None]) for state in reader.states], dim=1)
    scale = estimate_gradient_scale(log_norms[:, None], sizes, log_norm(target.detach()[None]), exact)
    rows = [
        LayerGsc(
            layer=layer,
            name=name,
            width=state.numel() // examples,
            log10_gsc=scale.log10_gsc[0, layer].item(),
            standard_error=scale.standard_error[0, layer].item(),
            **reader.domain.get(layer, dict.fromkeys(("preactivation_std", "sign_diversity", "linear_fit_error"))),
        )
        for layer, (name, state) in enumerate(zip(reader.names, reader.states, strict=True))
    ]
    inner = [row for row, name in enumerate(reader.names) if name != INPUT and not is_output[row]]
    rate = _fit_rate(log_norms[:, inner], sizes[0, inner], exact)
    return ModelGsc("output" if loss is None else "losses", rows, *rate)


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
        gradients = torch.autograd.grad(target, states, vector, retain_graph=True, allow_unused=True)
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


class _StateReader:
    """Catches the states of one forward pass: tensors at which gradients are wanted, with what follows them."""

    def __init__(self, arguments: list[Any], keywords: dict[str, Any]) -> None:
        self.names: list[str] = []
        self.states: list[torch.Tensor] = []
        self.calls: dict[str, int] = {}
        self.problems: list[str] = []
        self.domain: dict[int, dict[str, float | None]] = {}
        places: list[tuple[Any, Any]] = [(arguments, key) for key in range(len(arguments))]
        places += [(keywords, key) for key in keywords]
        for place, key in places:
            value = place[key]
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                self.names.append(INPUT)
                self.states.append(value.requires_grad_())
                place[key] = value.clone()  # the model may work on its input in place
                break

    @contextlib.contextmanager
    def reading(self, twin: torch.nn.Module, names: Sequence[str]) -> Iterator[None]:
        """Read the named modules of a model while it runs."""
        by_module: dict[torch.nn.Module, str] = {}
        for name in names:
            by_module.setdefault(twin.get_submodule(name), name)
        handles = [
            module.register_forward_hook(self._make_hook(name)) for module, name in by_module.items()
        ]  # a module that has several names is read under the first
        try:
            with _NonlinearityWatch(self._note_nonlinearity):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _make_hook(self, name: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            state = _find_tensor(output)
            if state is None or not state.is_floating_point():
                self.problems.append(
                    f"modules: {name!r} returns {type(output).__name__} without a floating-point tensor"
                )
                return None
            if not state.requires_grad:
                state = state.detach().requires_grad_()
            call = self.calls[name]
            self.names.append(name if call == 1 else f"{name}#{call}")
            self.states.append(state)
            # What follows may work in place; it gets a copy, so that the state keeps its value.
            return _replace_first_tensor(output, state.clone())

        return hook

    def _note_nonlinearity(self, n: torch.Tensor, activated: torch.Tensor) -> None:
        layer = len(self.states) - 1
        if layer < 0 or layer in self.domain or n.shape != activated.shape or n.dim() < 2 or len(n) < 2:
            return
        n, activated = n.detach().flatten(1)[None], activated.detach().flatten(1)[None]
        self.domain[layer] = {
            "preactivation_std": preactivation_std(n).item(),
            "sign_diversity": sign_diversity(n).item(),
            "linear_fit_error": linear_fit_error(n, activated).item(),
        }

    def check(self, names: Sequence[str], all_must_be_called: bool) -> None:
        """Raise ValueError when what was asked for could not be read."""
        if self.problems:
            raise ValueError(self.problems[0] + "; leave it out")
        missing = [name for name in names if name not in self.calls]
        if all_must_be_called and missing:
            raise ValueError(f"modules: {missing[0]!r} is not called by the model on this batch; leave it out")
        if not self.calls:
            raise ValueError("modules: none that owns a weight is called; name those to be read")


class _NonlinearityWatch(TorchFunctionMode):
    """Tells inputs and outputs of nonlinear functions while it is active."""

    def __init__(self, note: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords = keywords or {}
        if function not in NONLINEARITIES:
            return function(*arguments, **keywords)
        n = arguments[0] if arguments else keywords["input"]
        before = n.detach().clone()  # it may work in place
        activated = function(*arguments, **keywords)
        self.note(before, activated)
        return activated


def _unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside DataParallel or torch.compile; raises ValueError for what is no plain module."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"model: {type(model).__name__} is no torch.nn.Module; give one")
    if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        return _unwrap(model.module)
    if isinstance(inner := getattr(model, "_orig_mod", None), torch.nn.Module):  # of torch.compile
        return _unwrap(inner)
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("model: is a ScriptModule, whose inside cannot be read; give the module it was made from")
    return model


def _copy_for_measurement(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    if any(isinstance(tensor, torch.nn.UninitializedParameter) for tensor in model.parameters()):
        raise ValueError("model: holds lazy modules without weights yet; run it on a batch once")
    try:
        twin = copy.deepcopy(model).to(dtype)
    except Exception as error:  # whatever a model's parts raise
        raise ValueError(f"model: cannot be copied to {dtype} ({one_line(error)})") from error
    twin.eval()
    for module in twin.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train()
    return twin


def _names_of(model: torch.nn.Module, modules: Sequence[str | torch.nn.Module] | None) -> list[str]:
    """Return the names of the modules to read; raises ValueError for one that the model does not hold."""
    if modules is None:
        return [
            name
            for name, module in model.named_modules()
            if any(weight.dim() >= 2 for weight in module.parameters(recurse=False))
            or hasattr(module, "parametrizations")
        ]
    known = {module: name for name, module in reversed(list(model.named_modules(remove_duplicate=False)))}
    all_names = {name for name, _ in model.named_modules(remove_duplicate=False)}
    names = []
    for module in modules:
        name = module if isinstance(module, str) else known.get(module)
        if name is None or name not in all_names:
            raise ValueError(f"modules: {module!r} is not in the model; choose from those of model.named_modules()")
        names.append(name)
    return names


def _prepare_batch(batch: Any, twin: torch.nn.Module, dtype: torch.dtype) -> tuple[list[Any], dict[str, Any], int]:
    """Return positional and keyword arguments as the copy needs them, and the number of examples."""
    device = next((tensor.device for tensor in [*twin.parameters(), *twin.buffers()]), torch.device("cpu"))

    def prepare(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        value = value.detach().to(device, copy=True)
        return value.to(dtype) if value.is_floating_point() else value

    keywords = {name: prepare(value) for name, value in batch.items()} if isinstance(batch, dict) else {}
    values = [] if isinstance(batch, dict) else batch if isinstance(batch, (tuple, list)) else [batch]
    arguments = [prepare(value) for value in values]
    tensors = [value for value in [*arguments, *keywords.values()] if isinstance(value, torch.Tensor) and value.dim()]
    if not tensors or len(tensors[0]) == 0:
        raise ValueError("batch: holds no tensor with examples; give what the model is called with")
    return arguments, keywords, len(tensors[0])


def _find_tensor(output: Any) -> torch.Tensor | None:
    """Return the first tensor in a module's output: a tensor, a tuple or list, or a mapping."""
    if isinstance(output, torch.Tensor):
        return output
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return next((found for value in values if (found := _find_tensor(value)) is not None), None)


def _replace_first_tensor(output: Any, replacement: torch.Tensor) -> Any:
    """Return an output of the same kind with its first tensor replaced."""
    if isinstance(output, torch.Tensor):
        return replacement
    items = list(output.items()) if isinstance(output, dict) else list(enumerate(output))
    key, value = next((key, value) for key, value in items if _find_tensor(value) is not None)
    changed = dict(items) | {key: _replace_first_tensor(value, replacement)}
    if isinstance(output, dict):
        result = copy.copy(output)
        result[key] = changed[key]
        return result
    if hasattr(output, "_fields"):  # a named tuple
        return type(output)(*changed.values())
    return type(output)(changed.values())


def _same_values(state: torch.Tensor, target: torch.Tensor) -> bool:
    """Say whether a state is the output itself, handed on as a copy or in another shape."""
    return state.numel() == target.numel() and torch.equal(state.detach().flatten(), target.detach().flatten())


def _write(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
