"""What a run says about where its numbers came from."""

import subprocess

import pytest
import torch

from study import environment
from study import run_log_schema as schema

code_revision = environment.code_revision.__wrapped__  # not what was found out before


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one commit, as if this code lay in it."""
    for name, value in (("NAME", "someone"), ("EMAIL", "someone@example.org")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    project = tmp_path / "project"
    (project / "study").mkdir(parents=True)
    (project / "study" / "environment.py").write_text("a = 1\n")
    monkeypatch.setattr(environment, "__file__", str(project / "study" / "environment.py"))
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(project), *arguments], check=True)
    return project


def test_the_revision_is_the_commit_and_a_hash_of_what_differs(project):
    commit = code_revision()
    assert len(commit) == 12
    changed = []
    for text in ("a = 2\n", "a = 3\n"):
        (project / "study" / "environment.py").write_text(text)
        changed.append(code_revision())
    assert all(revision.startswith(f"{commit}-dirty-") for revision in changed)
    assert changed[0] != changed[1]
    (project / "study" / "environment.py").write_text("a = 1\n")
    assert code_revision() == commit


def test_a_copy_without_history_does_not_go_by_the_repository_around_it(project, monkeypatch):
    inner = project / "copy" / "study"
    inner.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(inner / "environment.py"))
    assert code_revision().startswith("version ")


def test_the_compiler_of_kernels_is_told(monkeypatch):
    monkeypatch.setattr(environment, "describe_library", lambda: "g++ 12.2.0")
    assert environment.describe_environment("cpu")[schema.TAG_COMPILER] == "g++ 12.2.0"


@pytest.mark.parametrize(
    ("own", "onednn", "expected"), [(True, True, "own"), (False, True, "oneDNN"), (False, False, "default")]
)
def test_whose_products_are_told_for_each_type(monkeypatch, own, onednn, expected):
    monkeypatch.setattr(environment, "multiplies_natively", lambda device, dtype: own and dtype == torch.bfloat16)
    monkeypatch.setattr(environment, "multiplies_with_onednn", lambda dtype: onednn and dtype == torch.bfloat16)
    tags = environment.describe_environment("cpu")
    assert tags["bf16_products"] == expected
    assert tags["fp32_products"] == "default"
