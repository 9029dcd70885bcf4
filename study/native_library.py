"""The C++ files of this folder → a library that this machine's compiler has made of them, kept for later processes.

Compiling takes some twenty seconds, once per machine, compiler and version of torch. What the kernels compute stands in
`study/kernels.py`, `study/probe_kernels.py`, `study/optimizers.py` and `study/member_products.py`; torch does it where
there is no compiler.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from study.activations import LEAKY_SLOPE, SELU_ALPHA, SELU_SCALE
from study.normalizations import EPSILON
from study.user_cache import make_cache_folder

HEADERS = [Path(__file__).with_name(name) for name in ("native_activations.h", "native_exports.h", "native_numbers.h")]
SOURCES = [
    Path(__file__).with_name(name) for name in ("native_kernels.cpp", "native_probes.cpp", "native_products.cpp")
]
FLAGS = (
    *("-std=c++20", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp-simd", "-fno-math-errno"),
    *("-fno-trapping-math", "-fPIC", "-shared", "-fvisibility=hidden", "-w"),
)
CONSTANTS = {
    "EPSILON": EPSILON,
    "LEAKY_SLOPE": LEAKY_SLOPE,
    "SELU_SCALE": SELU_SCALE,
    "SELU_ALPHA": SELU_ALPHA,
}
TYPE_NAMES = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}
COMPILE_SECONDS = 600  # of which it needs 20, where nobody else is busy: workers give way to other processes


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Return the library, compiled if need be; None, with a warning that says why, where that does not work."""
    try:
        return ctypes.CDLL(str(_compiled()))
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        told = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        reason = (told or str(error)).strip().partition("\n")[0]
        warnings.warn(f"kernels are not compiled, and a step takes 1.8 to 4.6 times as long ({reason})", stacklevel=2)
        return None


def describe_library() -> str:
    """Return the compiler that made this process's kernels, with its version, or "none": then torch runs them."""
    return "none" if load_library() is None else _compiler_version(_find_compiler())


@functools.cache
def has_function(name: str, types: Sequence[torch.dtype]) -> bool:
    """Say whether there is a library, and it has a function for these types of numbers on this processor."""
    return hasattr(load_library(), _full_name(name, types))


@functools.cache
def find_function(name: str, types: Sequence[torch.dtype] = ()) -> Any:
    """Return a function of the library, by its name and the types of its numbers."""
    function = getattr(load_library(), _full_name(name, types))
    function.restype = None
    return function


def _full_name(name: str, types: Sequence[torch.dtype]) -> str:
    return "_".join([name, *(TYPE_NAMES[dtype] for dtype in types)])


def activation_number(name: str) -> int | None:
    """Return the library's number of an activation; None where there is no library, or it lacks the activation."""
    library = load_library()
    if library is None:
        return None
    library.activation_number.restype = ctypes.c_int64
    number = library.activation_number(name.encode())
    return number if number >= 0 else None


def _compiled() -> Path:
    """Return the library's file. Raises OSError, ValueError, RuntimeError or SubprocessError when there can be none."""
    compiler = _find_compiler()
    command = [compiler, *FLAGS, *(f"-D{name}={value!r}" for name, value in CONSTANTS.items()), *_torch_options()]
    texts = [source.read_text() for source in (*HEADERS, *SOURCES)]
    ingredients = (texts, command, _compiler_version(compiler), torch.__version__, _processor_features())
    path = make_cache_folder("kernels/native") / f"{hashlib.sha256(repr(ingredients).encode()).hexdigest()[:16]}.so"
    if not _is_whole(path):
        from filelock import FileLock

        # Else every worker of a new machine compiles it; one that waits too long does without.
        with FileLock(path.with_suffix(".lock"), timeout=COMPILE_SECONDS):
            if not _is_whole(path):
                _compile(command, path)
    return path


def _is_whole(path: Path) -> bool:
    """Say whether the library is what was compiled: loading one that was cut off would end the process."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == path.with_suffix(".sha256").read_text()
    except FileNotFoundError:
        return False


def _compile(command: list[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / path.name
        # Libraries come last: what the source needs of them must be known by then.
        libraries = [f"-L{Path(torch.__file__).parent / 'lib'}", "-ltorch_cpu", "-lc10"]
        subprocess.run(
            [*command, *map(str, SOURCES), *libraries, "-o", str(draft)],
            check=True,
            capture_output=True,
            text=True,
            timeout=COMPILE_SECONDS,
        )
        path.with_suffix(".sha256").write_text(hashlib.sha256(draft.read_bytes()).hexdigest())
        draft.replace(path)


def _find_compiler() -> str:
    name = os.environ.get("CXX") or ("clang++" if platform.system() == "Darwin" else "g++")
    compiler = shutil.which(name)
    if compiler is None:
        raise ValueError(f"no C++ compiler: {name} is not found; install it, or name another in CXX")
    return compiler


@functools.cache
def _compiler_version(compiler: str) -> str:
    answer = subprocess.run(
        [compiler, "-dumpfullversion", "-dumpversion"], check=True, capture_output=True, text=True, timeout=60
    )
    return f"{Path(compiler).name} {answer.stdout.strip()}"


def _torch_options() -> list[str]:
    """Return where torch's headers lie and which of its vector widths to use: the one it has chosen itself."""
    options = [f"-I{Path(torch.__file__).parent / 'include'}"]
    capability = torch.backends.cpu.get_cpu_capability()
    if capability in ("AVX2", "AVX512"):
        options += [f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"]
    return options


def _processor_features() -> str:
    """Return what tells processors apart for which `-march=native` differs, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor(), platform.machine()]
    telling = ("model name", "model\t", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(telling)}))
