"""The atlas on small networks: rows, table and figure."""

import math

import pandas as pd
import pytest
from scipy import stats

from analysis.__main__ import main as analyse
from analysis.atlas import load_atlas, write_atlas_pages
from analysis.figures import plot_atlas
from study.__main__ import main as run_study
from study.gsc_atlas import all_cells, measure_cell
from study.mean_field import predicted_explosion_rate, squared_growth_by_layer
from study.trial_config import ACTIVATIONS, NORMALIZATIONS


def test_every_combination_is_a_cell():
    cells = all_cells((5, 7))
    assert len(cells) == len(set(cells)) == len(ACTIVATIONS) * len(NORMALIZATIONS) * 2 * 4


def test_a_cell_agrees_with_theory():
    row = measure_cell(("relu", "batch", 200, 1.0), depth=12, seeds=6)
    assert row.predicted_explosion_rate == predicted_explosion_rate(
        squared_growth_by_layer(12, "relu", "batch", 1.0, batch_size=128)
    )
    assert row.low < row.explosion_rate < row.high
    assert row.growth == pytest.approx(row.explosion_rate**2)
    half = math.log(row.high / row.low) / 2  # of the interval of ln r, of which ln χ is twice
    error = row.growth * 2 * half / stats.t(5).ppf(0.975)
    difference = row.growth - row.predicted_explosion_rate**2
    assert row.growth_standard_error == pytest.approx(error)
    assert row.deviation == pytest.approx(difference / (row.predicted_explosion_rate**2 - 1))
    assert row.deviation_in_errors == pytest.approx(difference / error)
    assert abs(row.deviation_in_errors) < 4
    assert abs(row.deviation) < 0.1


@pytest.mark.filterwarnings("ignore")  # of processes that are started anew
def test_from_the_command_to_table_and_figure(tmp_path, capsys):
    csv, table, figure = tmp_path / "atlas.csv", tmp_path / "atlas.md", tmp_path / "atlas.png"
    assert (
        run_study(["atlas", "--output", str(csv), "--width", "4", "--width", "6", "--depth", "4", "--seeds", "2"]) == 0
    )
    atlas = load_atlas(csv)
    assert len(atlas) == len(all_cells((4, 6)))
    assert set(atlas["normalization"]) == set(NORMALIZATIONS)  # "none" is no missing value
    assert analyse(["atlas", str(csv), "--table", str(table), "--figure", str(figure)]) == 0
    assert table.read_text().count("\n| relu | batch |") == 8
    assert figure.read_bytes().startswith(b"\x89PNG")


def make_atlas(**cells):
    """Return an atlas of one cell, in which theory has no explosion."""
    cell = {"activation": "relu", "normalization": "rms", "width": 4, "dilution": 0.0, "deviation": math.nan}
    rates = {"explosion_rate": 1.01, "low": 1.0, "high": 1.02, "predicted_explosion_rate": 1.0}
    return pd.DataFrame([cell | rates | {"stationary_explosion_rate": 1.0, "deviation_in_errors": 3.1} | cells])


def test_a_cell_that_is_off_without_a_share_has_its_errors_in_bold(tmp_path):
    csv, table = tmp_path / "atlas.csv", tmp_path / "atlas.md"
    make_atlas().to_csv(csv)
    write_atlas_pages(load_atlas(csv), table, tmp_path / "atlas.png")
    assert "| 1.0000 |  | **+3.1** | 1.0000 |" in table.read_text()


def test_no_rate_lies_outside_of_the_figure():
    panel = plot_atlas(make_atlas(explosion_rate=3.0, low=0.1, high=40.0)).axes[0]
    markers = {line.get_marker(): line.get_xdata()[0] for line in panel.get_lines()}
    assert panel.get_xlim()[0] < markers["o"] == 2 < panel.get_xlim()[1]
    assert (markers["<"], markers[">"]) == panel.get_xlim()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "1"], "seeds: 1 is out of range; give at least 2"),
        (["--depth", "2"], "depth: 2 is out of range; give at least 3"),
        (["--width", "0"], "width: 0 is out of range"),
        (["--output", "nowhere/atlas.csv"], "output: folder nowhere does not exist"),
    ],
)
def test_bad_options(options, message, capsys):
    assert run_study(["atlas", *options]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_atlas(tmp_path, capsys):
    path = tmp_path / "other.csv"
    for content in (None, "", "a,b\n1,2\n"):
        if content is not None:
            path.write_text(content)
        assert analyse(["atlas", str(path), "--table", "t", "--figure", "f"]) == 2
        assert "is no atlas" in capsys.readouterr().err
