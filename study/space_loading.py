"""A search space's name, or a user's file and function → its trials.

Whatever a user's file does wrong ends in one line that says where.
"""

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from study import run_log_schema as schema
from study.trial_config import TrialConfig, one_line, unknown_name


def load_space(space: str, known: Mapping[str, Callable[[], list[TrialConfig]]]) -> tuple[str, list[TrialConfig]]:
    """Return the name and the trials of a space, one that is known by its name or `path/to/file.py:function`.

    Raises ValueError, in one line, for whatever is wrong with it, the user's own file included.
    """
    path, _, function_name = space.rpartition(":")
    if path.endswith(".py"):
        function = _load_function(Path(path), function_name)
    elif space.endswith(".py"):
        raise ValueError(f"space: {space} names no function; give {space}:function")
    elif space in known:
        function_name, function = space, known[space]
    elif path and _is_file(f"{path}.py"):
        raise ValueError(f"space: {space} names no file; give {path}.py:{function_name}")
    else:
        raise ValueError(unknown_name("space", space, tuple(known), also="path/to/file.py:function"))
    try:
        trials = function()
    except ValueError as error:
        raise ValueError(f"{one_line(error)} (in space {space})") from None
    except (Exception, SystemExit) as error:  # whatever the user's function raises is a fault of the space
        first, *inner = traceback.extract_tb(error.__traceback__)
        if isinstance(error, TypeError) and not inner:  # it was raised by the call, before the function began
            remedy = "give each of its arguments a default"
            raise ValueError(f"space: {space} is called without arguments; {remedy} ({one_line(error)})") from None
        place = inner[-1] if inner else first
        at = f"{Path(place.filename).name}, line {place.lineno}"
        raise ValueError(f"space: {space} raised {type(error).__name__}: {one_line(error)} ({at})") from None
    if not isinstance(trials, list) or not all(isinstance(trial, TrialConfig) for trial in trials):
        raise ValueError(f"space: {space} returned no list of TrialConfig; let it return one")
    return schema.check_study_name(function_name), trials


def _is_file(path: str | Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 -- unlike Path's, it says no to a name that is too long


def _load_function(path: Path, function_name: str) -> Callable[[], list[TrialConfig]]:
    if not _is_file(path):
        raise ValueError(f"space: file {path} does not exist; give path/to/file.py:function")
    # The prefix keeps a file from replacing a module of the same name.
    specification = importlib.util.spec_from_file_location(f"space_file_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file raises is a fault of the space
        raise ValueError(f"space: {path} cannot be imported ({type(error).__name__}: {one_line(error)})") from None
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = tuple(
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and callable(value) and not name.startswith("_")
        )
        raise ValueError(unknown_name(f"space: function in {path}", function_name, functions))
    return function
