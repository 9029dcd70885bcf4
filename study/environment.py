"""This process → the tags that say what code, libraries and device a number came from."""

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

from study import run_log_schema as schema
from study.member_products import multiplies_natively
from study.native_library import describe_library
from study.processor import FP32_TOLERANCE, fp32_error, multiplies_with_onednn

RECORDED_LIBRARIES = ("torch", "numpy", "ray", "mlflow")


def describe_environment(device: str) -> dict[str, str]:
    """Return tags: code revision, versions of Python and of RECORDED_LIBRARIES that are installed, compiler, device."""
    tags = {schema.TAG_CODE_REVISION: code_revision(), "version.python": platform.python_version()}
    tags |= {f"version.{library}": version for library in RECORDED_LIBRARIES if (version := _version(library))}
    tags[schema.TAG_FP32_PRODUCTS] = _products(torch.float32) if device == "cpu" else _fp32_products_of(device)
    tags[schema.TAG_BF16_PRODUCTS] = _products(torch.bfloat16) if device == "cpu" else "device"
    tags[schema.TAG_COMPILER] = describe_library() if device == "cpu" else "device"
    tags[schema.TAG_DEVICE] = torch.cuda.get_device_name() if device.startswith("cuda") else f"cpu {_processor()}"
    return tags


@functools.cache  # what this process has loaded does not change with the files
def code_revision() -> str:
    """Return the git commit of this code, with `-dirty-` and a hash of what differs; the version outside a checkout."""
    project = Path(__file__).resolve().parent.parent
    try:
        # A copy without history inside somebody's repository must not go by that repository's commit.
        if Path(_git(project, "rev-parse", "--show-toplevel")).resolve() == project:
            commit = _git(project, "rev-parse", "--short=12", "HEAD")
            changes = _git(project, "diff", "HEAD")
            return f"{commit}-dirty-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else commit
    except (OSError, subprocess.CalledProcessError):
        pass
    return f"version {_version('depth-trainability') or 'unknown'}"


@functools.cache
def _version(library: str) -> str:
    """Return the version of a library that is installed, else nothing."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _products(dtype: torch.dtype) -> str:
    """Return whose kernel multiplies matrices of a type while networks train on the CPU."""
    if multiplies_natively("cpu", dtype):
        return "own"
    return "oneDNN" if multiplies_with_onednn(dtype) else "default"


@functools.cache
def _fp32_products_of(device: str) -> str:
    """Say whether a GPU's products of fp32 matrices are that, by trying one."""
    return "device" if fp32_error(device=device) < FP32_TOLERANCE else "device, shortened"


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
