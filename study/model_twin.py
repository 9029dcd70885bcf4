"""A model, a batch and names → a copy to measure, its arguments, and the modules to read.

The copy is in evaluation mode, but for normalization that may have running statistics: batch normalization takes the
moments of the batch, instance normalization those of each example.
"""

import copy
import difflib
from collections.abc import Sequence
from typing import Any

import torch

from study.trial_config import one_line

BATCH_NORMALIZATION = torch.nn.modules.batchnorm._BatchNorm
WITH_STATISTICS = BATCH_NORMALIZATION, torch.nn.modules.instancenorm._InstanceNorm


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside DataParallel or torch.compile; raises ValueError for what is no plain module."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"model: {type(model).__name__} is no torch.nn.Module; give one")
    if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        return unwrap(model.module)
    if isinstance(inner := getattr(model, "_orig_mod", None), torch.nn.Module):  # of torch.compile
        return unwrap(inner)
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("model: is a ScriptModule, whose inside cannot be read; give the module it was made from")
    return model


def copy_for_measurement(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Return a copy in a precision and in the mode of measurement; raises ValueError where there can be none."""
    if any(isinstance(tensor, torch.nn.UninitializedParameter) for tensor in model.parameters()):
        raise ValueError("model: holds lazy modules without weights yet; run it on a batch once")
    try:
        twin = copy.deepcopy(model).to(dtype)
    except Exception as error:  # whatever a model's parts raise
        raise ValueError(
            f"model: cannot be copied to {dtype} ({one_line(error)}); drop what it keeps of earlier passes, and use "
            "torch.nn.utils.parametrizations instead of the older weight_norm"
        ) from error
    twin.eval()
    for module in twin.modules():
        if isinstance(module, WITH_STATISTICS):
            module.train()
    return twin


def default_names(model: torch.nn.Module) -> tuple[list[str], list[str]]:
    """Return the modules that own a weight, and the blocks: those that hold others."""
    weights, blocks = [], []
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):  # they compute weights, not states
            continue
        parametrized = hasattr(module, "parametrizations")
        if parametrized or any(weight.dim() >= 2 for weight in module.parameters(recurse=False)):
            weights.append(name)
        elif name and any(True for _ in module.children()):
            blocks.append(name)
    return weights, blocks


def names_of(model: torch.nn.Module, modules: Sequence[str | torch.nn.Module]) -> list[str]:
    """Return the names of the modules to read; raises ValueError for one that the model does not hold."""
    if isinstance(modules, (str, torch.nn.Module)):
        raise ValueError(f"modules: {modules!r} is no list; give a list of names or modules")
    known = {module: name for name, module in reversed(list(model.named_modules(remove_duplicate=False)))}
    all_names = tuple(name for name, _ in model.named_modules(remove_duplicate=False))
    names = []
    for module in modules:
        name = module if isinstance(module, str) else known.get(module)
        if name is None:
            raise ValueError(f"modules: {type(module).__name__} is not in the model; choose from its named_modules()")
        if name not in all_names:
            near = difflib.get_close_matches(name, all_names, n=1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"modules: {name!r} is not in the model; {guess}choose from its named_modules()")
        names.append(name)
    return names


def prepare_batch(batch: Any, twin: torch.nn.Module, dtype: torch.dtype) -> tuple[list[Any], dict[str, Any], int]:
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
    if tensors[0].is_floating_point() and tensors[0].dim() == 1:
        raise ValueError(
            f"batch: {list(tensors[0].shape)} is one example; give several, the first dimension counts them"
        )
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise ValueError("batch: holds numbers that are not finite; measure where they are")
    return arguments, keywords, len(tensors[0])
