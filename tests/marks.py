"""Marks that several files of tests share."""

import warnings

import pytest

from study.native_library import describe_library

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that there is no compiler is what is asked
    needs_compiler = pytest.mark.skipif(describe_library() == "none", reason="needs a C++ compiler")
