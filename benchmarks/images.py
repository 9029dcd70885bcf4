"""A data specification → the images that a benchmark trains on, or one line that says why there are none."""

import sys
from pathlib import Path

from study.datasets import Dataset, load_dataset
from study.one_line_errors import BAD_USAGE, print_error


def load_or_exit(specification: str, data_folder: Path = Path("data")) -> Dataset:
    """Load a data set; where that does not work, say why and exit as `python -m study run` does."""
    try:
        return load_dataset(specification, data_folder)
    except ValueError as error:
        print_error(error)
        sys.exit(BAD_USAGE)
