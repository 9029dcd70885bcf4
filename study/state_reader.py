"""A model while it runs on a batch → its states, with the nonlinearities that follow them, and which lie on its path.

States are the outputs of modules, caught by hooks; nonlinearities are caught whether they are modules or functions.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from study.signal_domain import DOMAIN_METRICS, measure_domain

INPUT = "input"
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


class StateReader:
    """Catches the states of one forward pass: tensors at which gradients are wanted, with what follows them."""

    def __init__(self, arguments: list[Any], keywords: dict[str, Any], blocks: Sequence[str]) -> None:
        self.blocks = frozenset(blocks)
        self.is_block: list[bool] = []
        self.handed_on: torch.Tensor | None = None
        self.version_handed_on = 0
        self.read_as: dict[str, str] = {}
        self.inputs: list[int] = []
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
                self._add(INPUT, value.requires_grad_())
                self.inputs = [0]
                place[key] = value.clone()  # the model may work on its input in place
                break

    def _add(self, name: str, state: torch.Tensor) -> None:
        self.names.append(name)
        self.states.append(state)
        self.is_block.append(name.partition("#")[0] in self.blocks)

    @contextlib.contextmanager
    def reading(self, twin: torch.nn.Module, names: Sequence[str]) -> Iterator[None]:
        """Read the named modules of a model while it runs."""
        by_module: dict[torch.nn.Module, str] = {}
        for name in names:
            by_module.setdefault(twin.get_submodule(name), name)
        self.read_as = {name: by_module[twin.get_submodule(name)] for name in names}  # under the first of several
        handles = [module.register_forward_hook(self._make_hook(name)) for module, name in by_module.items()]
        try:
            with NonlinearityWatch(self._note_nonlinearity):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _make_hook(self, name: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
            state = find_tensor(output)
            if name in self.blocks and (state is None or not state.is_floating_point() or self._is_handed_on(state)):
                return None  # no state of its own
            self.calls[name] = self.calls.get(name, 0) + 1
            if state is None or not state.is_floating_point():
                self.problems.append(
                    f"modules: {name!r} returns {type(output).__name__} without a floating-point tensor"
                )
                return None
            if not state.requires_grad:
                state = state.detach().requires_grad_()
            call = self.calls[name]
            self._add(name if call == 1 else f"{name}#{call}", state)
            # What follows may work in place; it gets a copy, so that the state keeps its value.
            self.handed_on = state.clone()
            self.version_handed_on = _version_of(self.handed_on)
            return replace_first_tensor(output, self.handed_on)

        return hook

    def _is_handed_on(self, state: torch.Tensor) -> bool:
        """Whether this is what was read last, and nothing was done to it in place since."""
        return state is self.handed_on and _version_of(state) == self.version_handed_on

    def _note_nonlinearity(self, n: torch.Tensor, activated: torch.Tensor) -> None:
        layer = len(self.states) - 1
        if layer < 0 or layer in self.domain or n.shape != activated.shape or n.dim() < 2 or len(n) < 2:
            return
        n, activated = n.detach().flatten(1)[None], activated.detach().flatten(1)[None]
        self.domain[layer] = {name: value.item() for name, value in measure_domain(n, activated).items()}

    def domain_after(self, state: int, before: int) -> dict[str, float | None]:
        """Return the metrics of the first nonlinearity after a state and before another one."""
        nothing = dict.fromkeys(DOMAIN_METRICS)
        return next((self.domain[place] for place in range(state, before) if place in self.domain), nothing)

    def check(self, names: Sequence[str], all_must_be_called: bool) -> None:
        """Raise ValueError when what was asked for could not be read."""
        if self.problems:
            raise ValueError(self.problems[0] + "; leave it out")
        missing = [name for name in names if self.read_as[name] not in self.calls]
        if all_must_be_called and missing:
            raise ValueError(f"modules: {missing[0]!r} is not called by the model on this batch; leave it out")
        if not self.calls:
            raise ValueError("modules: none that owns a weight is called; name those to be read")


class NonlinearityWatch(TorchFunctionMode):
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


def _version_of(tensor: torch.Tensor) -> int:
    """Return how often a tensor was written to in place; that of one made in inference mode is not counted."""
    return 0 if tensor.is_inference() else tensor._version


def choose_path(reader: StateReader, cuts: list[bool]) -> tuple[list[int], list[int]]:
    """Return the states to show, and those to take the rate over: cuts that all information passes."""
    states = range(len(reader.states))
    weights = [state for state in states if not reader.is_block[state] and state not in reader.inputs]
    blocks = [state for state in states if reader.is_block[state] and cuts[state]]
    cut_weights = [state for state in weights if cuts[state]]
    if 2 * len(cut_weights) >= len(weights) or not blocks:
        return sorted([*reader.inputs, *weights]), cut_weights
    inside = tuple(f"{reader.names[block].partition('#')[0]}." for block in blocks)
    outside = [state for state in cut_weights if not reader.names[state].startswith(inside)]
    return sorted([*reader.inputs, *weights, *blocks]), sorted([*blocks, *outside])


def reaches(target: torch.Tensor, source: torch.Tensor, without: torch.Tensor) -> bool:
    """Say whether gradients get from the target to the source by a way that does not pass a third tensor."""
    if without is source:
        return False
    # Nodes are told apart by identity, which holds as long as they are kept alive.
    blocked, seen, todo = without.grad_fn, set(), [target.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node is blocked or node in seen:
            continue
        if node is source.grad_fn or getattr(node, "variable", None) is source:
            return True
        if getattr(node, "variable", None) is without:
            continue
        seen.add(node)
        todo += [parent for parent, _ in node.next_functions]
    return False


def find_tensor(output: Any) -> torch.Tensor | None:
    """Return the first tensor in a module's output: a tensor, a tuple or list, or a mapping."""
    return next(all_tensors(output), None)


def find_output(output: Any, examples: int) -> torch.Tensor | None:
    """Return the tensor in a model's output that is the target: the first of examples, else the first with entries."""
    found = [tensor for tensor in all_tensors(output) if tensor.is_floating_point() and tensor.dim() > 0]
    return next((tensor for tensor in found if len(tensor) == examples), next(iter(found), None))


def all_tensors(output: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in an output, those inside tuples, lists and mappings, too."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, (dict, tuple, list)):
        for value in output.values() if isinstance(output, dict) else output:
            yield from all_tensors(value)


def replace_first_tensor(output: Any, replacement: torch.Tensor) -> Any:
    """Return an output of the same kind with its first tensor replaced."""
    if isinstance(output, torch.Tensor):
        return replacement
    items = list(output.items()) if isinstance(output, dict) else list(enumerate(output))
    key, value = next((key, value) for key, value in items if find_tensor(value) is not None)
    changed = dict(items) | {key: replace_first_tensor(value, replacement)}
    if isinstance(output, dict):
        result = copy.copy(output)
        result[key] = changed[key]
        return result
    if hasattr(output, "_fields"):  # a named tuple
        return type(output)(*changed.values())
    return type(output)(changed.values())
