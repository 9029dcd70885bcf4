"""Estimates on made-up studies whose truth is known, and figures and report that do not stumble over odd ones."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from analysis import figures
from analysis.explosion_rates import estimate_explosion_rates, measure_growth
from analysis.figure_style import save_figure
from analysis.fits import average_profiles, pair_error_with_gsc, tabulate_final_errors
from analysis.report import describe_study
from analysis.tidy_frames import make_frames
from analysis.trainable_depth import estimate_cell_rates
from analysis.uncertainty import t_interval
from study import run_log_schema as schema
from study.trial_config import TrialConfig

TAGS = {"chance_error": "0.9", "data": "images:somewhere", "data_checksum": "abc"}


def simulate(trials, rate=1.2, noise=0.0, statuses=None, seed=0):
    """A study whose GSC grows by `rate` per layer, with noise of the rate over seeds, and error = depth / 100."""
    generator = np.random.default_rng(seed)
    rows, histories, profiles = [], {}, {}
    rates = {}
    for number, trial in enumerate(trials):
        run_id = f"run{number}"
        status = statuses[number] if statuses else "ok"
        rows.append(
            {"run_id": run_id, "trial_id": trial.trial_id, "name": trial.name, "status": status}
            | {name: str(value) for name, value in dataclasses.asdict(trial).items()}
        )
        if status == "failed":
            continue
        true_rate = rates.setdefault(trial.seed, math.log10(rate) + noise * generator.standard_normal())
        epochs = range(trial.epochs + 1)
        metrics = dict.fromkeys(schema.EPOCH_METRICS, 0.0) | {schema.TRAIN_ERROR: trial.depth / 100}
        metrics |= {schema.TEST_ERROR: trial.depth / 100 + 0.1, schema.LOG10_GSC_TO_LOGITS: true_rate * trial.depth}
        histories[run_id] = pd.DataFrame([{"epoch": epoch, **metrics} for epoch in epochs])
        profiles[run_id] = pd.DataFrame(
            [
                (epoch * 10, float(epoch), layer, true_rate * (trial.depth - layer) / (epoch + 1), 0.01, 1.0, 0.5, 0.1)
                for epoch in epochs
                for layer in range(trial.depth)
            ],
            columns=list(schema.LAYER_COLUMNS),
        )
    return make_frames("made-up", TAGS, rows, histories, profiles)


def grid(**fields):
    trials = []
    for seed in fields.pop("seeds", [0]):
        for depth in fields.get("depths", [5, 20]):
            for rate in fields.get("rates", [1e-3]):
                for k in fields.get("dilutions", [0.0]):
                    trials.append(TrialConfig(depth=depth, seed=seed, learning_rate=rate, dilution=k, epochs=2))
    return trials


def test_rates_are_recovered_exactly_without_noise():
    rates = estimate_explosion_rates(simulate(grid(seeds=range(4), dilutions=[0.0, 1.0]), rate=1.2)).table
    assert rates["explosion_rate"].tolist() == pytest.approx([1.2, 1.2], rel=1e-12)
    assert rates["seeds"].tolist() == [4, 4]
    assert rates["high"].max() - rates["low"].min() < 1e-9


def test_networks_that_differ_in_the_optimizer_alone_count_once():
    frames = simulate(grid(seeds=range(2), rates=[1e-3, 1e-2, 1e-1]))
    assert len(measure_growth(frames)) == 4
    assert estimate_explosion_rates(frames).table["seeds"].tolist() == [2]


def test_networks_that_differ_in_training_alone_count_once_too():
    trials = grid(seeds=range(2))
    trials += [dataclasses.replace(trial, clipping="norm", epochs=3) for trial in trials]
    frames = simulate(trials)
    (rate,) = estimate_explosion_rates(frames).table.itertuples()
    assert (rate.network, rate.seeds) == ("none-relu", 2)
    assert len(set(frames.trials["network"])) == 2


def test_layers_that_nothing_arrives_at_do_not_shorten_the_growth():
    frames = simulate(grid(depths=[10], seeds=[0, 1]), rate=1.2)
    first_run = frames.layers["run_id"] == frames.layers["run_id"].iloc[0]
    frames.layers.loc[first_run & (frames.layers["layer"] == 1), "log10_gsc"] = np.nan
    frames.layers.loc[~first_run & (frames.layers["layer"] == 4), "log10_gsc"] = np.nan
    (rate,) = estimate_explosion_rates(frames).table.itertuples()
    assert (rate.seeds, rate.explosion_rate) == (1, pytest.approx(1.2))
    frames.layers.loc[frames.layers["layer"] == 1, "log10_gsc"] = np.nan
    assert estimate_explosion_rates(frames).table.empty


def test_theory_that_is_unknown_is_left_out():
    tiny_batch = [dataclasses.replace(trial, normalization="batch", probe_size=3) for trial in grid()]
    (rate,) = estimate_explosion_rates(simulate(tiny_batch)).table.itertuples()
    assert math.isnan(rate.mean_field)
    # At depth 60 this stream fades below the smallest number.
    fading = [dataclasses.replace(trial, gain=1e-5) for trial in grid(depths=[10, 60])]
    (rate,) = estimate_explosion_rates(simulate(fading)).table.itertuples()
    assert rate.mean_field == pytest.approx(1.0)


def test_an_error_that_was_not_finite_in_the_end_is_missing():
    trials = grid(depths=[10])
    frames = simulate(trials)
    epochs = frames.epochs.assign(run_id="run0")
    epochs.loc[epochs["epoch"] == 2, schema.TRAIN_ERROR] = np.nan
    row = {"run_id": "run0", "trial_id": trials[0].trial_id, "name": trials[0].name, "status": "ok"}
    row |= {name: str(value) for name, value in dataclasses.asdict(trials[0]).items()}
    (trial,) = make_frames("made-up", TAGS, [row], {"run0": epochs}, {}).trials.itertuples()
    assert math.isnan(trial.final_train_error)


def test_one_seed_has_no_interval():
    (rate,) = estimate_explosion_rates(simulate(grid())).table.itertuples()
    assert math.isnan(rate.low)
    assert rate.explosion_rate == pytest.approx(1.2)


def test_t_interval_against_a_textbook_value():
    mean, low, high = t_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2, 2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert math.isnan(t_interval([1.0])[1])


def test_the_best_learning_rate_is_chosen_on_training_error():
    trials = grid(depths=[10], rates=[1e-3, 1e-2], seeds=[0, 1])
    frames = simulate(trials)
    worse = frames.trials["learning_rate"] == 1e-2
    frames.trials.loc[worse, "final_train_error"] += 0.2
    frames.trials.loc[worse, "final_test_error"] -= 0.05
    (row,) = tabulate_final_errors(frames).itertuples()
    assert row.learning_rate == 1e-3
    assert (row.train_error, row.test_error) == pytest.approx((0.1, 0.2))


def test_a_learning_rate_that_lacks_a_seed_is_compared_on_the_others():
    trials = grid(depths=[10], rates=[1e-3, 1e-2], seeds=[0, 1])
    frames = simulate(trials, statuses=["ok", "ok", "ok", "failed"])
    frames.trials.loc[frames.trials["learning_rate"] == 1e-2, "final_train_error"] -= 0.05
    (row,) = tabulate_final_errors(frames).itertuples()
    assert (row.learning_rate, row.seeds) == (1e-2, 1)
    frames.trials.loc[frames.trials["learning_rate"] == 1e-2, "final_train_error"] += 0.1
    (row,) = tabulate_final_errors(frames).itertuples()
    assert (row.learning_rate, row.seeds) == (1e-3, 2)


def test_diverged_counts_as_chance_and_failed_as_nothing():
    trials = grid(depths=[10], seeds=[0, 1, 2, 3])
    frames = simulate(trials, statuses=["ok", "diverged", "failed", "unfinished"])
    by_status = frames.trials.set_index("status")["final_train_error"]
    assert by_status["ok"] == pytest.approx(0.1)
    assert by_status["diverged"] == 0.9
    assert by_status[["failed", "unfinished"]].isna().all()
    (row,) = tabulate_final_errors(frames).itertuples()
    assert (row.seeds, row.diverged, row.train_error) == (2, 1, pytest.approx(0.5))
    assert "4 trials (1 ok, 1 diverged, 1 failed, 1 unfinished)" in describe_study(frames)


def test_profiles_are_of_the_deepest_trials_at_both_ends():
    profiles = average_profiles(simulate(grid(depths=[5, 8], seeds=[0, 1])))
    assert set(profiles["depth"]) == {8}
    for moment, share in (("before training", 1), ("after training", 1 / 3)):
        chosen = profiles[profiles["moment"] == moment]
        assert chosen["layer"].tolist() == list(range(8))
        assert chosen["log10_gsc"].iloc[0] == pytest.approx(8 * math.log10(1.2) * share)


def test_profiles_after_training_are_of_the_best_learning_rate():
    frames = simulate(grid(depths=[8], rates=[1e-3, 1e-2], seeds=[0, 1]))
    worse = frames.trials["learning_rate"] == 1e-2
    frames.trials.loc[worse, "final_train_error"] += 0.2
    spoilt = frames.layers["run_id"].isin(frames.trials.loc[worse, "run_id"]) & (frames.layers["epoch"] > 0)
    frames.layers.loc[spoilt, "log10_gsc"] -= 10
    profiles = average_profiles(frames)
    trained = profiles[profiles["moment"] == "after training"]
    assert trained["log10_gsc"].iloc[0] == pytest.approx(8 * math.log10(1.2) / 3)


def test_pairs_hold_one_row_per_measured_trial():
    frames = simulate(grid(seeds=[0, 1]), statuses=["ok", "failed", "diverged", "ok"])
    assert len(pair_error_with_gsc(frames)) == 3


def test_a_run_figure_is_drawn(tmp_path, monkeypatch):
    frames = simulate(grid(depths=[5]))
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.append(figure) or save_figure(figure, path))
    figures.draw_run_figure(frames.layers, "some run with a long name " * 5, tmp_path / "gsc.png")
    assert (tmp_path / "gsc.png").read_bytes().startswith(b"\x89PNG")
    drawn[0].draw_without_rendering()
    title = drawn[0].axes[0].title.get_window_extent()
    assert title.x1 <= drawn[0].legends[0].get_window_extent().x0


@pytest.mark.parametrize("log10_gsc", [400.0, -400.0])
def test_gsc_beyond_all_numbers_is_drawn(tmp_path, monkeypatch, log10_gsc):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.append(figure))
    profile = pd.DataFrame({"epoch": 0.0, "layer": [0.0, 1.0], "log10_gsc": [log10_gsc, 0.0]})
    figures.draw_run_figure(profile, "some run", tmp_path / "gsc.png")
    panel = drawn[0].axes[0]
    assert panel.get_lines()[0].get_ydata().tolist() == [log10_gsc, 0.0]
    assert f"$10^{{{log10_gsc:g}}}$" in [label.get_text() for label in panel.get_yticklabels()]


@pytest.mark.filterwarnings("ignore")  # mlflow's own
def test_bad_studies_and_stores(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    from analysis.__main__ import main
    from analysis.load_runs import make_client

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for arguments, message in (
        (["report", "demo", "--tracking-uri", uri], "does not exist; run a study first"),
        (["report", "../demo", "--tracking-uri", uri], "name: '../demo' is unusable"),
        (["report", "demo", "--tracking-uri", "gopher://x"], "tracking-uri: gopher://x cannot be read"),
        (["report", "demo", "--tracking-uri", "http://127.0.0.1:9"], "tracking-uri: http://127.0.0.1:9 cannot be read"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "mlflow.db").touch()
    client = make_client(uri)
    client.set_experiment_tag(client.create_experiment("real"), schema.TAG_DATA, "synthetic")
    assert main(["report", "reel", "--tracking-uri", uri]) == 2
    assert "study: 'reel' does not exist; choose one of: real" in capsys.readouterr().err
    assert main(["report", "real", "--storage", str(tmp_path)]) == 2
    assert "MLflow holds no trial of 'real' that ended (0 are running)" in capsys.readouterr().err


def test_what_differs_is_told_apart_and_named():
    trials = [
        dataclasses.replace(trial, width=width) for trial in grid(depths=[10], seeds=[0, 1]) for width in (50, 100)
    ]
    frames = simulate(trials)
    assert sorted(set(frames.trials["network"])) == ["none-relu width=100", "none-relu width=50"]
    assert tabulate_final_errors(frames)["seeds"].tolist() == [2, 2]
    assert estimate_explosion_rates(frames).table["network"].tolist() == ["none-relu width=100", "none-relu width=50"]


def test_conditions_are_told_apart_and_are_no_other_architecture():
    trials = [
        dataclasses.replace(trial, width=width, epochs=epochs, precision="bf16", probe_size=size)
        for trial in grid(depths=[10, 20], seeds=range(3))
        for width in (50, 100)
        for epochs in (1, 2)
        for size in (64, 128)
    ]
    (first, *_, last) = simulate(trials).trials.sort_values("network").itertuples()
    assert first.network == "none-relu width=100 epochs=1 probe_size=128"
    assert (first.architecture, first.conditions) == ("none-relu width=100", "epochs=1 probe_size=128")
    assert (first.untrained, last.untrained) == (
        "none-relu width=100 probe_size=128",
        "none-relu width=50 probe_size=64",
    )
    # With 10 trials to each they are compared; with fewer they are taken as sampled.
    assert set(simulate(trials[: len(trials) // 2]).trials["conditions"]) == {""}


def test_networks_measured_on_batches_of_different_sizes_are_told_apart():
    """The explosion of batch normalization is one of a batch of so many images."""
    trials = [
        dataclasses.replace(trial, normalization="batch", probe_size=size)
        for trial in grid(depths=[10, 20], seeds=[0, 1])
        for size in (16, 128)
    ]
    frames = simulate(trials)
    small = frames.trials.loc[frames.trials["probe_size"] == 16, "run_id"]
    frames.layers.loc[frames.layers["run_id"].isin(small), "log10_gsc"] *= 2
    table = estimate_explosion_rates(frames).table.sort_values("explosion_rate")
    assert table["network"].tolist() == ["batch-relu probe_size=128", "batch-relu probe_size=16"]
    assert table["explosion_rate"].tolist() == pytest.approx([1.2, 1.44])
    assert table["mean_field"].is_monotonic_increasing
    rates = estimate_cell_rates(frames)
    assert [rates[(name, "adam", 0.0)].value for name in table["network"]] == pytest.approx([1.2, 1.44])


def test_what_differs_between_optimizers_alone_is_not_named():
    sgd = [dataclasses.replace(trial, optimizer="sgd", momentum=0.9) for trial in grid(depths=[10])]
    assert set(simulate(grid(depths=[10]) + sgd).trials["network"]) == {"none-relu"}
