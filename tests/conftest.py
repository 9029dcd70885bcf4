"""What all tests share: one thread per process, as in a worker, and small data."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from study.datasets import Dataset, load_dataset
from study.processor import choose_fp32_products
from study.study_folder import StudyFolder
from study.trial_config import TrialConfig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    # The file that takes longest comes first, so that the last process to end has begun with it.
    items.sort(key=lambda item: item.path.name != "test_study_end_to_end.py")


@pytest.fixture(autouse=True, scope="session")
def _as_in_a_worker() -> None:
    # As prepare_processor does, but for denormal numbers: hypothesis makes some.
    torch.set_num_threads(1)
    choose_fp32_products()


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """400 synthetic training images and 80 test images."""
    return load_dataset("synthetic:400", tmp_path_factory.mktemp("data"))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """The folder of a new study."""
    folder = StudyFolder(tmp_path / "studies", "some")
    folder.create()
    return folder


@pytest.fixture
def make_trial():
    """Make a trial that trains in milliseconds, with fields replaced at will."""

    def make(**fields: object) -> TrialConfig:
        small = {"depth": 5, "width": 12, "epochs": 2, "batch_size": 32, "probe_size": 24, "probe_vectors": 2}
        return TrialConfig.from_fields({**small, **fields})

    return make


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the analysis remembers of studies out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANALYSIS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
