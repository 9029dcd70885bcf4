"""GSC against its definition, with the Jacobian of the whole batch written out."""

import functools
import math

import pytest
import torch

import study.linearization
import study.probe_kernels
import study.probes
from study.gradient_scale import explosion_rate, log_norm, log_size
from study.linearization import Linearization
from study.network import PackedNetwork
from study.network_gsc import gsc_matrix, gsc_to_logits_and_losses, gsc_to_state
from study.normalizations import NORMALIZATION_TABLE
from study.probes import members_at_once, probe_network
from study.random_streams import make_generator
from study.trial_config import ACTIVATIONS, INITIALIZATIONS, NORMALIZATIONS
from tests.reference import example_losses, explicit_gsc, from_stream, member_weights, plain_stream, to_stream

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


PAIRS = [(a, i) for a in ACTIVATIONS for i in INITIALIZATIONS if i != "looks_linear" or a == "relu"]
UNCOUPLED = [name for name, normalization in NORMALIZATION_TABLE.items() if not normalization.couples_examples]


@pytest.mark.parametrize(("activation", "initialization"), PAIRS)
@pytest.mark.parametrize("normalization", UNCOUPLED)
def test_exact_probes_equal_the_jacobian(make_trial, activation, normalization, initialization):
    trials = [
        make_trial(
            width=8,
            activation=activation,
            normalization=normalization,
            initialization=initialization,
            dilution=k,
            seed=k,
        )
        for k in (0, 1, 3)
    ]
    network, measured = probe(trials, inputs(), vectors=2)
    for member, trial in enumerate(trials):
        expected = torch.tensor(expected_log10_gsc(network, member, trial), dtype=torch.float64)
        # An error of 4e-11 in log10 is a relative one of 1e-10.
        torch.testing.assert_close(measured.to_logits.log10_gsc[member], expected, rtol=0, atol=4e-11)
        weights = member_weights(network, member)
        to_loss = explicit_gsc(
            inputs(), lambda x, trial=trial, weights=weights: example_losses(plain_stream(trial, weights, x)[1], LABELS)
        )
        assert measured.to_loss.log10_gsc[member, 0].item() == pytest.approx(math.log10(to_loss), abs=4e-11)
    assert (measured.to_logits.standard_error == 0).all()
    assert (measured.to_loss.standard_error == 0).all()


@pytest.mark.parametrize(("activation", "initialization"), PAIRS)
def test_pulled_back_gradients_equal_the_jacobian_with_coupled_examples(make_trial, activation, initialization):
    fields = {"width": 8, "activation": activation, "initialization": initialization, "normalization": "batch"}
    trials = [make_trial(**fields, dilution=k, seed=k) for k in (0, 1, 3)]
    network = PackedNetwork(trials, INPUTS, CLASSES, dtype=torch.float64)
    for member, trial in enumerate(trials):
        linearization = Linearization(network.select(slice(member, member + 1), torch.float64), inputs())
        # One vector per component of the whole batch's logits makes the sum of squares exact here, too.
        everything = torch.eye(EXAMPLES * CLASSES, dtype=torch.float64).view(-1, EXAMPLES, CLASSES)
        log_norms = linearization.pull_back(everything[None], trial.depth)
        squares = torch.logsumexp(2 * log_norms[0], dim=0)
        sizes = torch.cat([log_size(state) for state in linearization.states[:-1]])
        measured = (0.5 * squares + sizes - log_norm(linearization.logits)) / math.log(10)
        expected = torch.tensor(expected_log10_gsc(network, member, trial), dtype=torch.float64)
        torch.testing.assert_close(measured, expected, rtol=0, atol=4e-11)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_sign_probes_see_the_coupling_by_batch_normalization(make_trial, activation):
    trials = [make_trial(width=7, activation=activation, normalization="batch", dilution=k, seed=k) for k in (0, 1)]
    network, measured = probe(trials, inputs(), vectors=2000)
    for member, trial in enumerate(trials):
        expected = expected_log10_gsc(network, member, trial)
        for layer, value in enumerate(expected):
            error = measured.to_logits.standard_error[member, layer].item()
            assert 0 < error < 0.02
            assert abs(measured.to_logits.log10_gsc[member, layer].item() - value) < 4.5 * error
        weights = member_weights(network, member)
        to_loss = explicit_gsc(
            inputs(), lambda x, trial=trial, weights=weights: example_losses(plain_stream(trial, weights, x)[1], LABELS)
        )
        error = measured.to_loss.standard_error[member, 0].item()
        assert abs(measured.to_loss.log10_gsc[member, 0].item() - math.log10(to_loss)) < 4.5 * error
        # Without the coupling the answer is another one, which this test must be able to tell apart.
        alone = [
            torch.autograd.functional.jacobian(functools.partial(from_stream, trial, weights, 0), inputs())[i, :, i]
            for i in range(EXAMPLES)
        ]
        uncoupled = torch.stack(alone).norm() / math.sqrt(inputs().numel()) * inputs().norm()
        logits = plain_stream(trial, weights, inputs())[1]
        difference = abs(math.log10(uncoupled / logits.norm()) - expected[0])
        assert difference > 10 * measured.to_logits.standard_error[member, 0].item()


@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_standard_error_of_sign_probes_covers(make_trial, normalization):
    trial = make_trial(width=7, normalization=normalization, depth=4)
    network = PackedNetwork([trial], INPUTS, CLASSES, dtype=torch.float64)
    expected = expected_log10_gsc(network, 0, trial)[0]
    linearization = Linearization(network.select(slice(0, 1), torch.float64), inputs())
    repetitions, vectors, covered = 300, 16, 0
    for repetition in range(repetitions):
        measured, _ = gsc_to_logits_and_losses(
            linearization,
            LABELS,
            probe_vectors=vectors,
            generators=[make_generator(repetition, "coverage")],
            exact=False,
        )
        # 2.131 is the 97.5% point of Student's t with 15 degrees of freedom.
        covered += abs(measured.log10_gsc[0, 0].item() - expected) < 2.131 * measured.standard_error[0, 0].item()
    assert 0.90 <= covered / repetitions <= 0.99


def test_every_state_can_be_the_target(make_trial):
    trial = make_trial(width=8, normalization="layer", dilution=1)
    network = PackedNetwork([trial], INPUTS, CLASSES, dtype=torch.float64)
    linearization = Linearization(network.select(slice(0, 1), torch.float64), inputs())
    matrix = gsc_matrix(linearization, probe_vectors=2, generators=[make_generator(0, "test")])
    weights = member_weights(network, 0)
    states = [inputs(), *plain_stream(trial, weights, inputs())[0]]

    def run(source, target):
        def function(v):
            if source == 0:
                stream, logits = plain_stream(trial, weights, v)
                return [v, *stream, logits][target]
            rest = [*weights[source:target], (torch.eye(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64))]
            return to_stream(trial, rest, v) if target < trial.depth else from_stream(trial, weights, source, v)

        return function

    for source in range(trial.depth):
        for target in range(source + 1, trial.depth + 1):
            expected = math.log10(explicit_gsc(states[source], run(source, target)))
            assert matrix.log10_gsc[source, target].item() == pytest.approx(expected, abs=4e-11)
    assert matrix.log10_gsc.isnan().tril(-1).equal(torch.ones(6, 6).tril(-1).bool())
    assert (matrix.log10_gsc.diagonal() == 0).all()
    for target in (0, trial.depth + 1):
        with pytest.raises(ValueError, match=f"target: {target} is out of range; give a state from 1 to 5"):
            gsc_to_state(linearization, target, probe_vectors=2, generators=[make_generator(0, "test")])


def test_exact_is_refused_where_it_would_be_wrong(make_trial):
    network = PackedNetwork([make_trial(normalization="batch")], INPUTS, CLASSES, dtype=torch.float64)
    with pytest.raises(ValueError, match="exact: batch normalization couples the examples"):
        gsc_to_state(
            Linearization(network, inputs()), 5, probe_vectors=2, generators=[make_generator(0, "t")], exact=True
        )


def test_wide_inputs_and_many_vectors_change_nothing(make_trial, monkeypatch):
    x = torch.randn(EXAMPLES, 60, dtype=torch.float64, generator=make_generator(0, "test"))
    network = PackedNetwork([make_trial(width=8)], 60, CLASSES, dtype=torch.float64)
    linearization = Linearization(network, x)
    vectors = torch.randn(1, 7, EXAMPLES, CLASSES, dtype=torch.float64, generator=make_generator(1, "test"))
    log_norms = linearization.pull_back(vectors, 5)
    monkeypatch.setitem(study.linearization.ENTRIES_AT_ONCE, "cpu", 1)
    torch.testing.assert_close(linearization.pull_back(vectors, 5), log_norms, rtol=1e-13, atol=1e-13)
    x.requires_grad_()
    logits = network.forward(x, network.normalize_by_batch)[0]
    plain = [torch.autograd.grad(logits, x, vector, retain_graph=True)[0].norm().log() for vector in vectors[0]]
    torch.testing.assert_close(log_norms[0, :, 0], torch.stack(plain), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalization", NORMALIZATION_TABLE)
@pytest.mark.parametrize("per_member_inputs", [False, True])
def test_members_measured_together_are_what_they_are_alone(make_trial, monkeypatch, normalization, per_member_inputs):
    """As on a GPU: by torch, all at once or in turns of unequal size."""
    trials = [
        make_trial(depth=6, normalization=normalization, dilution=k, seed=seed) for seed, k in enumerate([0, 1, 3])
    ]
    network = PackedNetwork(trials, INPUTS, CLASSES)
    x = torch.randn(3, EXAMPLES, INPUTS, generator=make_generator(0, "test"))
    measure = functools.partial(
        probe_network, network, x if per_member_inputs else x[0], LABELS, seeds=[5, 6, 7], moment=2, probe_vectors=4
    )
    monkeypatch.setattr(study.probe_kernels, "activation_number", lambda _: None)
    alone = measure()
    for at_once in (2, 3):
        monkeypatch.setattr(study.probes, "members_at_once", lambda *_, at_once=at_once: at_once)
        together = measure()
        for of_all, of_one in ((together.to_logits, alone.to_logits), (together.to_loss, alone.to_loss)):
            torch.testing.assert_close(of_all.log10_gsc, of_one.log10_gsc, rtol=0, atol=1e-11)
            torch.testing.assert_close(of_all.standard_error, of_one.standard_error, rtol=1e-9, atol=1e-11)
        for name, values in together.domain.items():
            torch.testing.assert_close(values, alone.domain[name], rtol=1e-11, atol=1e-12)


def test_members_are_measured_at_once_as_far_as_memory_goes(make_trial):
    network = PackedNetwork([make_trial(depth=11, width=8, seed=seed) for seed in range(5)], INPUTS, CLASSES)
    x = torch.zeros(256, INPUTS, device="meta")
    weights = INPUTS * 8 + 9 * 8 * 8 + 8 * CLASSES
    of_member = (4 * 10 * 256 * 8 + 2 * weights) * 8
    for room, expected in ((5.5, 5), (4.5, 3), (2.5, 2), (0.5, 1)):
        assert members_at_once(network, x, room=int(room * of_member)) == expected
    assert members_at_once(network, torch.zeros(256, INPUTS)) == 1


def test_a_linear_orthogonal_network_has_gsc_one(make_trial):
    trial = make_trial(depth=30, width=INPUTS, activation="identity", initialization="orthogonal")
    network = PackedNetwork([trial], INPUTS, INPUTS, dtype=torch.float64)
    measured = probe_network(network, inputs(), LABELS, seeds=[0], moment=0, probe_vectors=INPUTS)
    torch.testing.assert_close(
        measured.to_logits.log10_gsc, torch.zeros(1, 30, dtype=torch.float64), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("layer", range(5))
@pytest.mark.parametrize(("activation", "normalization"), [("relu", "none"), ("tanh", "batch"), ("silu", "layer")])
def test_rescaling_a_layer_changes_nothing(make_trial, factor, layer, activation, normalization):
    network = PackedNetwork(
        [make_trial(activation=activation, normalization=normalization)], INPUTS, CLASSES, dtype=torch.float64
    )
    for parameter in network.parameters:  # so large that ε of the normalization does not tell the scales apart
        parameter.data *= 1e9 if normalization != "none" else 1

    def measure():
        probed = probe_network(network, inputs(), LABELS, seeds=[0], moment=0, probe_vectors=CLASSES)
        return probed.to_logits.log10_gsc

    before = measure()
    weights = [network.parameters[0].data, *network.parameters[2].unbind(1), network.parameters[4].data]
    weights[layer] *= factor
    torch.testing.assert_close(measure(), before, rtol=0, atol=4e-9)


def test_a_thousand_layers_neither_overflow_nor_underflow(make_trial):
    trial = make_trial(depth=1000, width=20, normalization="batch")
    _, measured = probe([trial], inputs(), vectors=2)
    assert measured.to_logits.log10_gsc.isfinite().all()
    assert measured.to_logits.log10_gsc[0, 0] > 60


@pytest.mark.parametrize("factor", [1e-10, 1e10])
def test_gradients_beyond_the_range_of_float64(make_trial, factor):
    trial = make_trial(depth=200, width=20, activation="identity", initialization="orthogonal")
    linearization = Linearization(PackedNetwork([trial], INPUTS, CLASSES, dtype=torch.float64), inputs())
    vectors = torch.ones(1, 1, EXAMPLES, CLASSES, dtype=torch.float64)
    before = linearization.pull_back(vectors, 200)
    with torch.no_grad():
        linearization.network.parameters[2] *= factor  # 10^±1980 over all hidden layers
    after = linearization.pull_back(vectors, 200)
    assert (after - before)[0, 0, 0].item() == pytest.approx(198 * math.log(factor), rel=1e-12)


def test_no_rounding_arrives_where_layer_normalization_of_one_unit_takes_out_everything(make_trial):
    trial = make_trial(width=1, activation="tanh", normalization="layer")
    linearization = Linearization(PackedNetwork([trial], INPUTS, CLASSES, dtype=torch.float64), inputs())
    vectors = torch.randn(1, 2, EXAMPLES, CLASSES, dtype=torch.float64, generator=make_generator(0, "test"))
    assert (linearization.pull_back(vectors, trial.depth) == -math.inf).all()


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


def test_an_explosion_rate_is_bitwise_the_same_alone_and_among_others():
    log10_gsc = torch.randn(200, 16, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for pack in log10_gsc:
        alone = torch.cat([explosion_rate(pack[member : member + 1]) for member in range(16)])
        assert torch.equal(explosion_rate(pack), alone)


def test_normalizations_are_all_tested_here():
    assert set(NORMALIZATIONS) == {*UNCOUPLED, "batch"}
