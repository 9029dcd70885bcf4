"""GSC of other people's models against a slow oracle, and the awkward things that models do."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from study import measure_gsc
from study.image_sources import import_torchvision_datasets
from study.random_streams import make_generator
from tests.reference import explicit_module_gsc

EXAMPLES = 6


def make_inputs(*shape, dtype=torch.float32):
    return torch.randn(EXAMPLES, *shape, generator=make_generator(0, "test"), dtype=dtype)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_mlp(*, norm=None, activation=nn.ReLU, depth=5):
    layers = [nn.Linear(8, 7)]
    for _ in range(depth - 2):
        layers += [*([norm(7)] if norm else []), activation(), nn.Linear(7, 7)]
    return nn.Sequential(*layers, activation(), nn.Linear(7, 3))


def by_name(measured):
    return {layer.name: layer for layer in measured.layers}


def prepare_for_oracle(model):
    twin = copy.deepcopy(model).double().eval()
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return twin


def check_exactly(model, x):
    """Examples do not influence each other: the measurement must equal the oracle."""
    measured = measure_gsc(model, x, independent_examples=True)
    twin = prepare_for_oracle(model)
    for name, layer in by_name(measured).items():
        expected = explicit_module_gsc(twin, x.double(), "" if name == "input" else name)
        assert layer.log10_gsc == pytest.approx(math.log10(expected), abs=4e-11), name
        assert layer.standard_error == 0
    return measured


def check_within_error(model, x, probe_vectors=400):
    measured = measure_gsc(model, x, probe_vectors=probe_vectors)
    twin = prepare_for_oracle(model)
    for name, layer in by_name(measured).items():
        expected = math.log10(explicit_module_gsc(twin, x.double(), "" if name == "input" else name))
        assert abs(layer.log10_gsc - expected) < 4.5 * layer.standard_error + 1e-12, name
        assert layer.standard_error < 0.03
    return measured


def test_plain_network():
    measured = check_exactly(make_mlp(), make_inputs(8))
    assert [layer.name for layer in measured.layers] == ["input", "0", "2", "4", "6", "8"]
    assert [layer.width for layer in measured.layers] == [8, 7, 7, 7, 7, 3]
    check_within_error(make_mlp(norm=nn.BatchNorm1d), make_inputs(8))


def test_resnet18():
    import_torchvision_datasets()  # works around its compiled operators
    from torchvision.models import resnet18

    measured = check_within_error(resnet18(num_classes=3), make_inputs(3, 32, 32)[:4], probe_vectors=150)
    assert len([layer for layer in measured.layers if ".conv" in layer.name]) == 16
    # Branches of its blocks are shown, but the rate is over what everything passes.
    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    assert [layer.name for layer in measured.layers if layer.on_path] == ["conv1", *blocks]


def make_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    with_warnings_off = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
    for weight in with_warnings_off.parameters():  # its layers are copies of one: make them differ
        weight.data += 0.1 * torch.randn_like(weight)
    return with_warnings_off


class Readout(nn.Module):
    """An encoder of which a few numbers are read, to keep the oracle's Jacobian small."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = make_encoder(), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.encoder(x).mean(dim=1))


def test_transformer_encoder():
    measured = check_exactly(Readout(), make_inputs(4, 8)[:2])
    assert "encoder.layers.0.self_attn" in by_name(measured)  # it returns a tuple
    assert by_name(measured)["encoder.layers.3.linear1"].linear_fit_error > 0  # its gelu is a function
    check_within_error(make_encoder(), make_inputs(3, 8)[:2])


def test_in_place_activations_measure_the_same():
    x = make_inputs(8)
    plain, in_place = make_mlp(), make_mlp(activation=lambda: nn.ReLU(inplace=True))
    in_place.load_state_dict(plain.state_dict())
    assert measure_gsc(plain, x).layers == measure_gsc(in_place, x).layers
    check_exactly(in_place, x)
    assert torch.equal(x, make_inputs(8))


def test_a_model_that_overwrites_its_input():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 3)

        def forward(self, x):
            return self.linear(x.mul_(2))

    x = make_inputs(8)
    model = Overwrites()
    measured = measure_gsc(model, x, independent_examples=True)
    assert torch.equal(x, make_inputs(8))
    assert measured.layers[0].log10_gsc == pytest.approx(
        measure_gsc(model.linear, 2 * x, independent_examples=True).layers[0].log10_gsc
    )


def test_a_module_that_is_called_twice_is_read_twice():
    linear = nn.Linear(8, 8)
    shared = nn.Sequential(linear, nn.Tanh(), linear, nn.Tanh(), nn.Linear(8, 3))
    unrolled = nn.Sequential(linear, nn.Tanh(), copy.deepcopy(linear), nn.Tanh(), shared[4])
    names = [layer.name for layer in measure_gsc(shared, make_inputs(8)).layers]
    assert names == ["input", "0", "0#2", "4"]
    for one, other in zip(
        measure_gsc(shared, make_inputs(8)).layers, measure_gsc(unrolled, make_inputs(8)).layers, strict=True
    ):
        assert one.log10_gsc == pytest.approx(other.log10_gsc, abs=1e-12)


def test_frozen_parameters_change_nothing():
    model = make_mlp()
    before = measure_gsc(model, make_inputs(8)).layers
    assert measure_gsc(model.requires_grad_(False), make_inputs(8)).layers == before


def test_tokens_have_no_gradient_but_their_embedding_has():
    model = nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(32, 5), nn.ReLU(), nn.Linear(5, 3))
    tokens = torch.randint(0, 11, (EXAMPLES, 4), generator=make_generator(0, "test"))
    for frozen in (False, True):
        measured = measure_gsc(model.requires_grad_(not frozen), tokens)
        assert [layer.name for layer in measured.layers] == ["0", "2", "4"]
        assert all(math.isfinite(layer.log10_gsc) for layer in measured.layers)


def test_recurrent_modules_return_tuples_of_tuples():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    check_exactly(Last(), make_inputs(3, 8)[:2])


def test_the_model_is_left_as_it_was():
    model = make_mlp(norm=nn.BatchNorm1d, activation=nn.Tanh).train()
    model[1].eval()
    model(make_inputs(8)).sum().backward()
    state = copy.deepcopy(model.state_dict())
    gradients = [weight.grad.clone() for weight in model.parameters()]
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    measure_gsc(nn.Sequential(model, nn.Dropout(0.5)), make_inputs(8))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert all(torch.equal(weight.grad, old) for weight, old in zip(model.parameters(), gradients, strict=True))
    assert not any(module._forward_hooks for module in model.modules())


def test_random_functions_do_not_move_the_random_state():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    random_state = torch.get_rng_state()
    measure_gsc(Noisy(), make_inputs(8), modules=[""])
    assert torch.equal(torch.get_rng_state(), random_state)


def test_modules_can_be_chosen_by_name_or_object():
    model = make_mlp()
    measured = measure_gsc(model, make_inputs(8), modules=["1", model[4], "8"])
    assert [layer.name for layer in measured.layers] == ["input", "1", "4", "8"]


def test_gsc_to_the_losses():
    model, x, labels = make_mlp(), make_inputs(8), torch.tensor([0, 1, 2, 0, 1, 2])

    def losses(logits):
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return losses(self.model(x))

    measured = by_name(measure_gsc(model, x, loss=losses, independent_examples=True))
    twin = prepare_for_oracle(WithLoss())
    assert measured["input"].log10_gsc == pytest.approx(
        math.log10(explicit_module_gsc(twin, x.double(), "")), abs=4e-11
    )
    assert measured["2"].log10_gsc == pytest.approx(
        math.log10(explicit_module_gsc(twin, x.double(), "model.2")), abs=4e-11
    )


def test_collapsing_domain_metrics_are_of_the_nonlinearity_that_follows():
    model, x = make_mlp(norm=nn.BatchNorm1d), make_inputs(8)
    measured = by_name(measure_gsc(model, x))
    n = prepare_for_oracle(model)[:2](x.double())
    assert measured["0"].sign_diversity == pytest.approx(
        torch.minimum((n > 0).double().mean(0), (n < 0).double().mean(0)).mean().item()
    )
    assert measured["0"].preactivation_std == pytest.approx(1, abs=1e-3)
    assert measured["11"].linear_fit_error is None  # nothing follows the output


def test_the_explosion_rate_and_its_interval():
    layers = [part for _ in range(30) for part in (nn.Linear(40, 40), nn.BatchNorm1d(40), nn.ReLU())]
    x = torch.randn(60, 40, generator=make_generator(0, "test"))
    model = nn.Sequential(*layers, nn.Linear(40, 5))
    truth = measure_gsc(model, x, probe_vectors=400).explosion_rate
    assert truth == pytest.approx(1.21, abs=0.03)
    covered = 0
    for seed in range(100):
        measured = measure_gsc(model, x, probe_vectors=5, seed=seed, modules=["0", "87"])
        covered += measured.low < truth_of_ends(model, x) < measured.high
    assert covered >= 88  # 95 are expected, with a standard deviation of 2.2


ENDS = {}


def truth_of_ends(model, x):
    if id(model) not in ENDS:
        ENDS[id(model)] = measure_gsc(model, x, probe_vectors=2000, modules=["0", "87"]).explosion_rate
    return ENDS[id(model)]


def test_exact_rates_have_no_width():
    measured = measure_gsc(make_mlp(), make_inputs(8), independent_examples=True)
    first, last = by_name(measured)["0"], by_name(measured)["6"]
    assert measured.explosion_rate == pytest.approx(10 ** ((first.log10_gsc - last.log10_gsc) / 3))
    assert measured.low == measured.explosion_rate == measured.high


class ResidualBlock(nn.Module):
    def __init__(self, width, scale=0.5):
        super().__init__()
        wide = 3 * width
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))
        self.scale = scale

    def forward(self, x):
        return x + self.scale * self.inner(x)


def test_the_rate_of_a_residual_network_is_that_of_its_stream():
    stem, head = nn.Linear(8, 12), nn.Linear(12, 3)
    model = nn.Sequential(stem, nn.Sequential(*(ResidualBlock(12) for _ in range(6))), head)
    measured = measure_gsc(model, make_inputs(8), independent_examples=True)
    stream = [f"1.{block}" for block in range(6)]
    assert [layer.name for layer in measured.layers if layer.on_path] == ["0", *stream]
    by_hand = measure_gsc(model, make_inputs(8), modules=["0", *stream], independent_examples=True)
    assert measured.explosion_rate == pytest.approx(by_hand.explosion_rate, abs=1e-12)
    assert by_name(measured)["1.2.inner.1"].on_path is False
    measured = measure_gsc(make_encoder(), make_inputs(3, 8))
    assert [layer.name for layer in measured.layers if layer.on_path] == [f"layers.{block}" for block in range(11)]


def test_a_chain_built_of_blocks_has_one_state_per_layer():
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()) for _ in range(5)]
    flat = nn.Sequential(*(part for block in blocks for part in block))
    one, other = measure_gsc(nn.Sequential(*blocks), make_inputs(8)), measure_gsc(flat, make_inputs(8))
    assert [layer.name for layer in one.layers] == ["input", *(f"{block}.0" for block in range(5))]
    assert one.explosion_rate == other.explosion_rate
    assert [layer.sign_diversity for layer in one.layers] == [layer.sign_diversity for layer in other.layers]


@pytest.mark.parametrize("name", ["weight_norm", "orthogonal", "spectral_norm"])
def test_parametrized_weights_are_no_states(name):
    parametrize = getattr(nn.utils.parametrizations, name)
    plain = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
    model = copy.deepcopy(plain)
    for layer in model:
        parametrize(layer)
    for layer, other in zip(plain, model.eval(), strict=True):
        layer.weight.data = other.weight.detach().clone()
    measured = measure_gsc(model, make_inputs(8))
    assert [layer.name for layer in measured.layers] == ["input", "0", "1", "2", "3"]
    assert measured.explosion_rate == pytest.approx(measure_gsc(plain, make_inputs(8)).explosion_rate, abs=1e-6)


def test_a_loss_beside_the_logits_is_not_the_target():
    plain = Returns(lambda y: y)
    for what in (lambda y: (y.mean(), y), lambda y: {"loss": y.sum(), "logits": y}):
        other = Returns(what)
        other.linear = plain.linear
        assert measure_gsc(other, make_inputs(8)).layers == measure_gsc(plain, make_inputs(8)).layers


def test_modules_off_the_path_do_not_spoil_the_rate():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.policy, self.value = make_mlp(), nn.Linear(3, 2), nn.Linear(3, 1)

        def forward(self, x):
            features = self.body(x)
            return self.policy(features), self.value(features)

    model = TwoHeads()
    names = ["body.0", "body.2", "body.4"]
    with_heads = measure_gsc(model, make_inputs(8), modules=[*names, "value"])
    assert by_name(with_heads)["value"].log10_gsc == -math.inf
    assert with_heads.explosion_rate == measure_gsc(model, make_inputs(8), modules=names).explosion_rate


def test_blocks_that_start_as_the_identity_have_rate_one():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

        def forward(self, x):
            return x + self.linear(torch.relu(x))

    model = nn.Sequential(*(Block() for _ in range(5)))
    measured = measure_gsc(model, make_inputs(8), modules=list("01234"))
    assert measured.explosion_rate == pytest.approx(1.0)


def test_what_no_gradient_reaches_is_minus_infinity():
    class Detours(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.used = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            self.unused(x)
            return self.used(x)

    assert by_name(measure_gsc(Detours(), make_inputs(8)))["unused"].log10_gsc == -math.inf


class Returns(nn.Module):
    """Returns what it is told to."""

    def __init__(self, what):
        super().__init__()
        self.linear, self.what = nn.Linear(8, 3), what

    def forward(self, x):
        return self.what(self.linear(x))


class Cast(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x):
        return self.linear(x.float())


@pytest.mark.parametrize(
    "what",
    [lambda y: {"logits": y}, lambda y: (y, None), lambda y: [y], lambda y: torch.return_types.max((y, y.long()))],
)
def test_outputs_of_other_kinds(what):
    plain = Returns(lambda y: y)
    other = Returns(what)
    other.linear = plain.linear
    assert measure_gsc(other, make_inputs(8)).layers == measure_gsc(plain, make_inputs(8)).layers


@pytest.mark.parametrize("kind", ["dict", "tuple", "named tuple"])
def test_modules_inside_may_return_other_kinds(kind):
    import collections

    Pair = collections.namedtuple("Pair", ["first", "second"])
    make, take = {
        "dict": (lambda y: {"y": y, "n": 1}, lambda out: out["y"]),
        "tuple": (lambda y: (None, y), lambda out: out[1]),
        "named tuple": (lambda y: Pair(y, 2), lambda out: out.first),
    }[kind]

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = Returns(make), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(torch.relu(take(self.inner(x))))

    model = Outer()
    measured = by_name(measure_gsc(model, make_inputs(8), modules=["inner", "inner.linear", "head"]))
    assert measured["inner"].log10_gsc == pytest.approx(measured["inner.linear"].log10_gsc, abs=1e-12)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: 3, {}, "model: int is no torch.nn.Module"),
        (lambda: nn.ReLU(), {}, "modules: none that owns a weight is called"),
        (lambda: make_mlp(), {"modules": ["nowhere"]}, "modules: 'nowhere' is not in the model"),
        (lambda: make_mlp(), {"modules": [nn.Linear(2, 2)]}, "is not in the model"),
        (lambda: Returns(lambda y: y.argmax(1)), {}, "model: its output holds no floating-point tensor"),
        (lambda: Returns(lambda y: None), {}, "model: its output holds no floating-point tensor"),
        (lambda: Returns(lambda y: y.detach()), {}, "model: no gradient flows to its output"),
        (lambda: nn.Linear(5, 2), {}, "model: does not run on this batch in torch.float64"),
        (lambda: nn.LazyLinear(3), {}, "model: holds lazy modules without weights yet"),
        (lambda: make_mlp(), {"probe_vectors": 1}, "probe_vectors: 1 is out of range"),
        (lambda: make_mlp(), {"loss": lambda y: y.mean()}, "loss: returned []; let it return one number per example"),
        (lambda: make_mlp(), {"loss": lambda y: None}, "loss: returned NoneType"),
        (lambda: make_mlp(), {"loss": lambda y: y.detach().sum(1)}, "loss: no gradient flows through it"),
        (
            lambda: make_mlp(),
            {"loss": lambda y: y @ torch.ones(3)},
            "loss: does not run on the output in torch.float64",
        ),
        (lambda: Returns(lambda y: y.sum()), {}, "model: its output holds no floating-point tensor of examples"),
        (
            lambda: Returns(lambda y: checkpoint(torch.exp, y, use_reentrant=True)),
            {},
            "model: gradients cannot be taken",
        ),
        (
            lambda: make_mlp(norm=nn.BatchNorm1d),
            {"independent_examples": True},
            "independent_examples: batch normalization couples the examples",
        ),
        (lambda: Returns(lambda y: y.T), {"independent_examples": True}, "first dimension is 3, not the 6 examples"),
        (lambda: torch.jit.trace(nn.Linear(8, 3), make_inputs(8)), {}, "model: is a ScriptModule"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, about tracing and lazy modules
def test_what_cannot_be_measured_is_told_in_one_line(model, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        measure_gsc(model(), make_inputs(8), **options)
    assert "\n" not in str(caught.value)


def test_a_named_module_that_is_not_called():
    model = Returns(lambda y: y)
    model.spare = nn.Linear(8, 8)
    with pytest.raises(ValueError, match="modules: 'spare' is not called by the model on this batch"):
        measure_gsc(model, make_inputs(8), modules=["linear", "spare"])
    assert "spare" not in by_name(measure_gsc(model, make_inputs(8)))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((), "holds no tensor with examples"),
        ({}, "holds no tensor with examples"),
        (torch.zeros(0, 8), "holds no tensor with examples"),
        (3, "holds no tensor with examples"),
        (torch.ones(8), r"\[8\] is one example"),
        (torch.full((2, 8), math.nan), "holds numbers that are not finite"),
    ],
)
def test_unusable_batches(batch, message):
    with pytest.raises(ValueError, match=f"batch: {message}"):
        measure_gsc(make_mlp(), batch)


def test_a_module_may_be_called_input():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.middle, self.output = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.output(torch.tanh(self.middle(torch.tanh(self.input(x)))))

    measured = measure_gsc(Model(), make_inputs(8))
    assert [(layer.name, layer.on_path) for layer in measured.layers] == [
        ("input", False), ("input", True), ("middle", True), ("output", False)
    ]  # fmt: skip


def test_arguments_by_position_and_by_name():
    model, x = nn.Bilinear(8, 8, 3), make_inputs(8)
    by_position = measure_gsc(model, (x, x)).layers
    assert measure_gsc(model, {"input1": x, "input2": x}).layers == by_position


def test_the_table_as_frame_and_text():
    measured = measure_gsc(make_mlp(), make_inputs(8))
    frame = measured.to_frame()
    assert list(frame.columns) == [
        "layer", "name", "width", "log10_gsc", "standard_error", "on_path", "preactivation_std", "sign_diversity",
        "linear_fit_error",
    ]  # fmt: skip
    assert len(frame) == 6
    assert str(measured).splitlines()[0] == "GSC to the output"
    assert "explosion rate per state: " in str(measured)


class AddingBlock(nn.Module):
    """x + f(x), added in place or not."""

    def __init__(self, in_place):
        super().__init__()
        self.first, self.second, self.in_place = nn.Linear(8, 8), nn.Linear(8, 8), in_place

    def forward(self, x):
        y = self.second(torch.relu(self.first(x)))
        if not self.in_place:
            return y + x
        y += x
        return y


class ResidualInOneForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.branches = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(torch.relu(x))
        return self.head(x)


def test_the_path_does_not_depend_on_what_works_in_place():
    measured = []
    for in_place in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), *[AddingBlock(in_place) for _ in range(4)], nn.Linear(8, 3))
        measured.append(measure_gsc(model, make_inputs(8)))
    assert measured[0] == measured[1]
    assert [layer.name for layer in measured[0].layers if layer.on_path] == ["0", "1", "2", "3", "4"]


def test_a_rate_that_is_missing_has_its_remedy_and_one_of_branches_a_warning():
    model = ResidualInOneForward()
    text = str(measure_gsc(model, make_inputs(8)))
    assert "no rate: fewer than two states that everything passes" in text
    assert "in a residual network put each addition into a module" in text
    named = measure_gsc(model, make_inputs(8), modules=["branches.0", "branches.1"])
    assert named.bypassed == ("branches.0", "branches.1")
    assert str(named).endswith("everything passes branches.0, branches.1: this rate is not that of the whole network")
    assert measure_gsc(make_mlp(), make_inputs(8), modules=["0", "2"]).bypassed == ()


def test_instance_normalization_normalizes_whether_it_keeps_statistics_or_not():
    rates = []
    for keeps in (False, True):
        torch.manual_seed(0)
        parts = [(nn.Conv1d(4, 4, 3, padding=1), nn.InstanceNorm1d(4, track_running_stats=keeps)) for _ in range(4)]
        model = nn.Sequential(
            *(module for pair in parts for module in (*pair, nn.ReLU())), nn.Flatten(), nn.Linear(28, 3)
        )
        rates.append(measure_gsc(model, 3 + 5 * make_inputs(4, 7)).explosion_rate)
    assert rates[0] == rates[1]


def test_a_module_may_be_asked_for_under_each_of_its_names():
    model = nn.Sequential(shared := nn.Linear(8, 8), nn.Tanh(), shared, nn.Linear(8, 3))
    under_first = measure_gsc(model, make_inputs(8), modules=["0"])
    assert measure_gsc(model, make_inputs(8), modules=["0", "2"]) == under_first
    assert [layer.name for layer in measure_gsc(model, make_inputs(8), modules=["2"]).layers] == ["input", "2", "2#2"]


@pytest.mark.filterwarnings("ignore")  # torch's own
def test_parallel_and_compiled_wrappers_are_looked_through():
    model = make_mlp()
    plain = measure_gsc(model, make_inputs(8)).layers
    assert measure_gsc(nn.DataParallel(model), make_inputs(8)).layers == plain
    assert measure_gsc(torch.compile(model), make_inputs(8)).layers == plain


def test_it_agrees_with_the_study_on_the_studys_own_network(make_trial):
    from study.linearization import Linearization
    from study.network import PackedNetwork
    from study.network_gsc import gsc_to_state

    network = PackedNetwork([make_trial(width=8, normalization="layer")], 8, 3, dtype=torch.float64)
    first, _, hidden, _, last, _ = (parameter.detach()[0] for parameter in network.parameters)
    modules = []
    for weight in (first, *hidden, last):
        linear = nn.Linear(*weight.shape, bias=False)
        linear.weight.data = weight.T.clone()
        modules += [linear, nn.LayerNorm(weight.shape[1], elementwise_affine=False), nn.ReLU()]
    x = make_inputs(8, dtype=torch.float64)
    measured = measure_gsc(nn.Sequential(*modules[:-2]), x, independent_examples=True)
    ours = gsc_to_state(Linearization(network, x), 5, probe_vectors=2, generators=[make_generator(0, "test")])
    torch.testing.assert_close(
        torch.tensor([layer.log10_gsc for layer in measured.layers[:-1]], dtype=torch.float64), ours.log10_gsc[0]
    )


@pytest.mark.gpu
def test_models_on_a_gpu():
    model, x = make_mlp(norm=nn.BatchNorm1d), make_inputs(8)
    on_cpu = measure_gsc(model, x).layers
    random_state = torch.cuda.get_rng_state()
    for ours, theirs in zip(on_cpu, measure_gsc(model.cuda(), x.cuda()).layers, strict=True):
        assert ours.log10_gsc == pytest.approx(theirs.log10_gsc, abs=1e-9)
    assert torch.equal(torch.cuda.get_rng_state(), random_state)
