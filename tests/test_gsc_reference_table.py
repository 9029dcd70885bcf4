"""Rows of the published table of GSC at initialization: depth 50, width 100, 100 Gaussian inputs, 10 logits, B = 250.

Reference means and standard deviations over 10 seeds come from an independent float64 program.
"""

import math

import pytest

from study.gsc_of_networks import measure_networks

SEEDS = 10
FAST_ROWS = [
    ("relu", "batch", "gaussian", "critical", 0, 3.91, 0.09),
    ("relu", "batch", "gaussian", "critical", 1, 2.16, 0.07),
    ("tanh", "none", "gaussian", "critical", 0, 1.79, 0.03),
    ("tanh", "none", "orthogonal", 1.0, 0, 0.075, 0.004),
    ("selu", "none", "orthogonal", "critical", 0, 0.74, 0.01),
]
OTHER_ROWS = [
    ("relu", "none", "gaussian", "critical", 0, 0.00, 0.17),
    ("relu", "none", "orthogonal", "critical", 0, 0.04, 0.17),
    ("relu", "layer", "gaussian", "critical", 0, -0.22, 0.29),
    ("relu", "layer", "orthogonal", "critical", 0, -0.08, 0.19),
    ("relu", "batch", "orthogonal", "critical", 0, 3.82, 0.09),
    ("tanh", "none", "gaussian", 1.0, 0, 0.107, 0.012),
    ("tanh", "none", "orthogonal", "critical", 0, 1.75, 0.01),
    ("tanh", "layer", "gaussian", "critical", 0, 1.85, 0.03),
    ("tanh", "layer", "orthogonal", "critical", 0, 1.76, 0.02),
    ("tanh", "batch", "gaussian", "critical", 0, 2.00, 0.02),
    ("tanh", "batch", "orthogonal", "critical", 0, 1.77, 0.01),
    ("selu", "none", "gaussian", "critical", 0, 0.81, 0.04),
    ("relu", "batch", "gaussian", "critical", 2, 0.92, 0.05),
    ("tanh", "layer", "gaussian", "critical", 1, 1.07, 0.03),
    ("tanh", "layer", "gaussian", "critical", 2, 0.48, 0.02),
]
ROWS = FAST_ROWS + [pytest.param(*row, marks=pytest.mark.slow) for row in OTHER_ROWS]


@pytest.mark.parametrize(("activation", "normalization", "initialization", "gain", "k", "mean", "deviation"), ROWS)
def test_row(make_trial, activation, normalization, initialization, gain, k, mean, deviation):
    trials = [
        make_trial(
            depth=50,
            width=100,
            activation=activation,
            normalization=normalization,
            initialization=initialization,
            gain=gain,
            dilution=k,
            batch_size=250,
            probe_vectors=10,
            seed=seed,
        )
        for seed in range(SEEDS)
    ]
    measured = measure_networks(trials, inputs=100, outputs=10).log10_gsc
    # Both means are uncertain: each over ten seeds of its own.
    standard_error = math.sqrt((deviation**2 + measured.standard_deviation**2) / SEEDS)
    assert abs(measured.mean - mean) < 3 * standard_error
    # Both are of ten seeds: their ratio leaves these bounds once in three hundred rows.
    assert 1 / 3 < measured.standard_deviation / deviation < 3
