"""GSC against its definition, with the Jacobian of the whole batch written out."""

import functools
import math

import pytest
import torch

from study.gradient_scale import explosion_rate, log_norm, measure_gradient_scale
from study.network import PackedNetwork
from study.probes import probe_network
from study.random_streams import make_generator
from study.trial_config import ACTIVATIONS, INITIALIZATIONS, NORMALIZATIONS
from tests.reference import example_losses, explicit_gsc, from_stream, member_weights, plain_stream

INPUTS, CLASSES, EXAMPLES = 6, 3, 5
LABELS = torch.tensor([0, 1, 2, 1, 0])


def probe(trials, x, vectors):
    network = PackedNetwork(trials, INPUTS, CLASSES, dtype=torch.float64)
    return network, probe_network(
        network, x, LABELS, seeds=[trial.seed for trial in trials], moment=0, probe_vectors=vectors
    )


def inputs():
    return torch.randn(EXAMPLES, INPUTS, dtype=torch.float64, generator=make_generator(0, "test"))


def expected_log10_gsc(network, member, trial):
    weights = member_weights(network, member)
    stream, _ = plain_stream(trial, weights, inputs())
    return [
        math.log10(explicit_gsc(state, lambda v, layer=layer: from_stream(trial, weights, layer, v)))
        for layer, state in enumerate([inputs(), *stream])
    ]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", ["none", "layer"])
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_exact_probes_equal_the_jacobian(make_trial, activation, normalization, initialization):
    trials = [
        make_trial(
            width=7,
            activation=activation,
            normalization=normalization,
            initialization=initialization,
            dilution=k,
            seed=k,
        )
        for k in (0, 1, 3)
    ]
    network, measured = probe(trials, inputs(), vectors=CLASSES)
    for member, trial in enumerate(trials):
        expected = torch.tensor(expected_log10_gsc(network, member, trial), dtype=torch.float64)
        torch.testing.assert_close(measured.to_logits.log10_gsc[member], expected, rtol=0, atol=1e-10)
        weights = member_weights(network, member)
        to_loss = explicit_gsc(
            inputs(), lambda x, trial=trial, weights=weights: example_losses(plain_stream(trial, weights, x)[1], LABELS)
        )
        assert measured.to_loss.log10_gsc[member].item() == pytest.approx(math.log10(to_loss), abs=1e-10)
    assert (measured.to_logits.standard_error == 0).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sign_probes_see_the_coupling_by_batch_normalization(make_trial, activation):
    trials = [make_trial(width=7, activation=activation, normalization="batch", dilution=k, seed=k) for k in (0, 1)]
    network, measured = probe(trials, inputs(), vectors=2000)
    for member, trial in enumerate(trials):
        expected = expected_log10_gsc(network, member, trial)
        for layer, value in enumerate(expected):
            error = measured.to_logits.standard_error[member, layer].item()
            assert 0 < error < 0.02
            assert abs(measured.to_logits.log10_gsc[member, layer].item() - value) < 4.5 * error
        # Without the coupling the answer is another one, which this test must be able to tell apart.
        weights = member_weights(network, member)
        alone = [
            torch.autograd.functional.jacobian(functools.partial(from_stream, trial, weights, 0), inputs())[i, :, i]
            for i in range(EXAMPLES)
        ]
        uncoupled = torch.stack(alone).norm() / math.sqrt(inputs().numel()) * inputs().norm()
        logits = plain_stream(trial, weights, inputs())[1]
        difference = abs(math.log10(uncoupled / logits.norm()) - expected[0])
        assert difference > 10 * measured.to_logits.standard_error[member, 0].item()


def test_standard_error_of_sign_probes_covers(make_trial):
    trial = make_trial(width=7, normalization="batch", depth=4)
    network = PackedNetwork([trial], INPUTS, CLASSES, dtype=torch.float64)
    expected = expected_log10_gsc(network, 0, trial)[0]
    repetitions, vectors, covered = 300, 16, 0
    for repetition in range(repetitions):
        x = inputs().expand(1, -1, -1).clone().requires_grad_()
        measured = measure_gradient_scale(
            [x],
            network.forward(x, network.normalize_by_batch),
            probe_vectors=vectors,
            generators=[make_generator(repetition, "coverage")],
            independent_examples=False,
        )
        # 2.131 is the 97.5% point of Student's t with 15 degrees of freedom.
        covered += abs(measured.log10_gsc.item() - expected) < 2.131 * measured.standard_error.item()
    assert 0.90 <= covered / repetitions <= 0.99


def test_a_linear_orthogonal_network_has_gsc_one(make_trial):
    trial = make_trial(depth=30, width=INPUTS, activation="identity", initialization="orthogonal")
    network = PackedNetwork([trial], INPUTS, INPUTS, dtype=torch.float64)
    measured = probe_network(network, inputs(), LABELS, seeds=[0], moment=0, probe_vectors=INPUTS)
    torch.testing.assert_close(
        measured.to_logits.log10_gsc, torch.zeros(1, 30, dtype=torch.float64), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_rescaling_a_layer_changes_nothing(make_trial, factor):
    network = PackedNetwork([make_trial()], INPUTS, CLASSES, dtype=torch.float64)

    def measure():
        return probe_network(network, inputs(), LABELS, seeds=[0], moment=0, probe_vectors=CLASSES).to_logits.log10_gsc

    before = measure()
    network.parameters[2].data[:, 1] *= factor
    torch.testing.assert_close(measure(), before, rtol=0, atol=1e-8)


def test_a_thousand_layers_neither_overflow_nor_underflow(make_trial):
    trial = make_trial(depth=1000, width=20, normalization="batch")
    _, measured = probe([trial], inputs(), vectors=2)
    assert measured.to_logits.log10_gsc.isfinite().all()
    assert measured.to_logits.log10_gsc[0, 0] > 60


def test_norms_beyond_the_range_of_squares():
    tensor = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    for scale in (1e-300, 1, 1e300):
        assert log_norm(tensor * scale).item() == pytest.approx(math.log(5) + math.log(scale), rel=1e-12)
    assert log_norm(torch.zeros(1, 2)).item() == -math.inf


def test_what_no_gradient_reaches_is_minus_infinity(make_trial):
    network = PackedNetwork([make_trial(activation="relu")], INPUTS, CLASSES, dtype=torch.float64)
    network.parameters[3].data.fill_(-1e6)  # every relu of the second half is off
    network.parameters[5].data.fill_(1)
    measured = probe_network(network, inputs(), LABELS, seeds=[0], moment=0, probe_vectors=CLASSES)
    assert measured.to_logits.log10_gsc[0, 0] == -math.inf
    assert not measured.to_logits.log10_gsc.isnan().any()


def test_the_probe_of_a_member_does_not_depend_on_its_pack(make_trial):
    trials = [make_trial(normalization="batch", seed=seed) for seed in range(11)]
    _, together = probe(trials, inputs(), vectors=3)
    _, alone = probe(trials[9:10], inputs(), vectors=3)
    assert torch.equal(together.to_logits.log10_gsc[9], alone.to_logits.log10_gsc[0])
    assert torch.equal(together.to_loss.standard_error[9], alone.to_loss.standard_error[0])


def test_explosion_rate_is_the_growth_per_layer():
    log10_gsc = torch.tensor([[9.0, 3.0, 2.0, 1.0]])
    assert explosion_rate(log10_gsc).item() == pytest.approx(10.0)
    assert explosion_rate(log10_gsc[:, :2]).isnan().all()
    log10_gsc[0, 1] = -math.inf
    assert explosion_rate(log10_gsc).isnan().all()


def test_normalizations_are_all_tested_here():
    assert set(NORMALIZATIONS) == {"none", "layer", "batch"}
