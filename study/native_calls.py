"""Functions of the library and their arguments → calls, made at once or written down and made again and again.

A call from Python takes some microseconds more than what is called, as long as a small product. Calls whose tensors
stay where they are, those of a training step, are written down once; then one call makes all of them.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch

from study.native_library import find_function


class _Call(ctypes.Structure):
    _fields_ = (("function", ctypes.c_void_p), ("words", ctypes.c_void_p))


class CallList:
    """Calls in their order. Whoever writes them down keeps the tensors that they use."""

    def __init__(self) -> None:
        self.functions: list[Any] = []
        self.words: list[ctypes.Array] = []
        self._calls: ctypes.Array | None = None

    def append(self, function: Any, words: ctypes.Array) -> None:
        """Add a call behind all others."""
        self.functions.append(function)
        self.words.append(words)

    def make(self) -> None:
        """Make all calls."""
        if self._calls is None:
            addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in self.functions]
            calls = (_Call(*each) for each in zip(addresses, map(ctypes.addressof, self.words), strict=True))
            self._calls = (_Call * len(addresses))(*calls)
        find_function("make_calls")(ctypes.c_int64(len(self._calls)), self._calls)


_list_being_written: CallList | None = None


def written_down(work: Callable[[], None]) -> CallList:
    """Return the calls that `work` would make, of which none is made; whatever else it does is not written down."""
    global _list_being_written
    _list_being_written = calls = CallList()
    try:
        work()
    finally:
        _list_being_written = None
    return calls


def call(name: str, types: Sequence[torch.dtype], *words: int) -> None:
    """Call a function, named as in `find_function`, with addresses, integers and what `as_word` returns."""
    function, array = find_function(name, types), (ctypes.c_int64 * len(words))(*words)
    if _list_being_written is None:
        function(array)
    else:
        _list_being_written.append(function, array)


def as_word(number: float) -> int:
    """Return the integer with the bits of a float64."""
    return struct.unpack("q", struct.pack("d", number))[0]
