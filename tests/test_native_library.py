"""The compiled library: made once, made again when it is damaged, and done without where it cannot be made."""

import ctypes

import pytest
import torch

from study import native_library
from study.kernels import make_block_kernels
from study.native_kernels import side_by_side
from study.native_library import load_library

from tests.marks import needs_compiler  # isort: skip


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A machine that has compiled nothing yet, and a library that is soon compiled; this process keeps its own."""
    source = tmp_path / "small.cpp"
    source.write_text('#include "native_exports.h"\nEXPORT double slope() { return LEAKY_SLOPE; }\n')
    for header in native_library.HEADERS:
        (tmp_path / header.name).write_text(header.read_text())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native_library, "load_library", load_library.__wrapped__)
    monkeypatch.setattr(native_library, "SOURCES", [source])
    return tmp_path / "cache" / "depth-trainability" / "kernels" / "native"


def test_where_there_is_a_compiler_there_is_a_library():
    """Else the tests that need it would be skipped, and nobody would know."""
    try:
        native_library._find_compiler()
    except ValueError as error:
        pytest.skip(str(error))
    assert load_library() is not None
    assert native_library.has_function("multiply", (torch.float32,))


@needs_compiler
def test_it_is_compiled_once_and_again_when_it_is_damaged(fresh):
    path = native_library._compiled()
    made = path.stat().st_mtime_ns
    assert native_library._compiled().stat().st_mtime_ns == made
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # loading it would end the process
    assert native_library.load_library() is not None
    assert path.stat().st_size == len(whole)


@needs_compiler
def test_its_file_belongs_to_what_it_was_made_from(fresh, monkeypatch):
    slopes = []
    for slope in (0.1, 0.2):
        monkeypatch.setitem(native_library.CONSTANTS, "LEAKY_SLOPE", slope)
        function = native_library.load_library().slope
        function.restype = ctypes.c_double
        slopes.append(function())
    assert slopes == [0.1, 0.2]
    assert len(list(fresh.glob("*.so"))) == 2


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("not-there", "no C\\+\\+ compiler: not-there"), ("false", "not compiled"), ("true", "not compiled")],
)
def test_without_a_compiler_that_works_a_warning_says_so(fresh, monkeypatch, compiler, reason):
    monkeypatch.setenv("CXX", compiler)
    native_library._compiler_version.cache_clear()
    with pytest.warns(UserWarning, match=reason):
        assert native_library.load_library() is None


def test_a_compiler_that_talks_and_hangs_is_given_up(fresh, monkeypatch, tmp_path):
    slow = tmp_path / "g++"
    slow.write_text("#!/bin/sh\n[ $1 = -dumpfullversion ] && exit\necho wait >&2\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("CXX", str(slow))
    monkeypatch.setattr(native_library, "COMPILE_SECONDS", 0.5)
    with pytest.warns(UserWarning, match="timed out after"):
        assert native_library.load_library() is None


def test_without_a_home_a_warning_says_so(fresh, monkeypatch):
    def fail(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(native_library, "make_cache_folder", fail)
    with pytest.warns(UserWarning, match="home directory|no C\\+\\+ compiler"):
        assert native_library.load_library() is None


@needs_compiler
def test_a_library_that_others_could_have_put_there_is_not_loaded(fresh):
    native_library._compiled()
    fresh.chmod(0o777)
    with pytest.warns(UserWarning, match="others can write to it"):
        assert native_library.load_library() is None


def test_without_the_library_kernels_run_in_torch(monkeypatch):
    monkeypatch.setattr("study.native_kernels.activation_number", lambda name: None)
    kernels = make_block_kernels.__wrapped__("relu", "batch", compiled=True)
    images, rows = torch.arange(12, dtype=torch.uint8).view(4, 3), torch.tensor([[2, 0]])
    x = torch.zeros(1, 2, 3)
    kernels.take_images(images, rows, torch.full((3,), 2.0), torch.ones(3), x)
    assert x.tolist() == [[[13, 15, 17], [1, 3, 5]]]


def test_numbers_that_do_not_lie_side_by_side_are_refused():
    with pytest.raises(AssertionError):
        side_by_side(None, torch.zeros(3, 4).t())
    assert side_by_side(None) == (None,)
