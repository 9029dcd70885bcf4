"""What the documentation says of the family of networks against the tables it is made from."""

from pathlib import Path

import pytest

from study.activations import ACTIVATION_TABLE
from study.initialization import INITIALIZATION_TABLE
from study.normalizations import NORMALIZATION_TABLE

PAGE = (Path(__file__).parent.parent / "docs" / "measurements.md").read_text()
ROWS = (
    [(name, entry.formula) for name, entry in ACTIVATION_TABLE.items()]
    + [(name, entry.description) for name, entry in NORMALIZATION_TABLE.items()]
    + [(name, entry.description) for name, entry in INITIALIZATION_TABLE.items()]
)


@pytest.mark.parametrize(("name", "text"), ROWS)
def test_every_part_of_the_family_is_documented(name, text):
    assert f"| {name} | {text} |" in PAGE
