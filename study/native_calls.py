"""Functions of the library and their arguments → calls, made at once or written down and made again and again.

A call from Python takes some microseconds more than what is called, as long as a small product. Calls whose tensors
stay where they are, those of a training step, are written down once; then one call makes all of them.
"""

import ctypes
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from study.native_library import find_function

Argument: TypeAlias = torch.Tensor | int | float | None


class _Call(ctypes.Structure):
    _fields_ = (("function", ctypes.c_void_p), ("words", ctypes.c_void_p))


class CallList:
    """Calls in their order."""

    def __init__(self) -> None:
        self._made_of: list[tuple[Any, ctypes.Array, Sequence[Argument]]] = []  # keeps the tensors
        self._calls: ctypes.Array | None = None

    def append(self, function: Any, words: ctypes.Array, arguments: Sequence[Argument]) -> None:
        """Add a call behind all others."""
        self._made_of.append((function, words, arguments))

    def make(self) -> None:
        """Make all calls."""
        if self._calls is None:
            functions, words, _ = zip(*self._made_of, strict=True)
            addresses = (ctypes.cast(function, ctypes.c_void_p).value for function in functions)
            calls = (_Call(*each) for each in zip(addresses, map(ctypes.addressof, words), strict=True))
            self._calls = (_Call * len(words))(*calls)
        find_function("make_calls")(ctypes.c_int64(len(self._calls)), self._calls)


class _Writing(threading.local):
    """The list that a thread writes down its calls in."""

    calls: CallList | None = None


_writing = _Writing()


def written_down(work: Callable[[], None]) -> CallList:
    """Return the calls that `work` would make, of which none is made; whatever else it does is not written down."""
    _writing.calls = calls = CallList()
    try:
        work()
    finally:
        _writing.calls = None
    return calls


def call(name: str, types: Sequence[torch.dtype], *arguments: Argument) -> None:
    """Call a function of the library, named as in `find_function`; of a tensor it gets the address, 0 for None."""
    function, words = find_function(name, types), (ctypes.c_int64 * len(arguments))(*map(_as_word, arguments))
    if _writing.calls is None:
        function(words)
    else:
        _writing.calls.append(function, words, arguments)


def _as_word(argument: Argument) -> int:
    """Return the 64 bits that stand for an argument in `native_exports.h`, as an integer."""
    if isinstance(argument, torch.Tensor):
        return argument.data_ptr()
    if isinstance(argument, float):
        return struct.unpack("q", struct.pack("d", argument))[0]
    return argument or 0
