"""Slow, obvious oracles: one member at a time, one formula at a time, nothing shared with the fast code."""

import math

import torch

from study.network import PackedNetwork
from study.trial_config import TrialConfig

PHI = {
    "relu": lambda z: torch.where(z > 0, z, 0),
    "leaky_relu": lambda z: torch.where(z > 0, z, 0.01 * z),
    "tanh": lambda z: (z.exp() - (-z).exp()) / (z.exp() + (-z).exp()),
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "selu": lambda z: 1.0507009873554805 * torch.where(z > 0, z, 1.6732632423543772 * (z.exp() - 1)),
    "elu": lambda z: torch.where(z > 0, z, z.exp() - 1),
    "gelu": lambda z: z * torch.distributions.Normal(0, 1).cdf(z),
    "silu": lambda z: z / (1 + (-z).exp()),
    "softplus": lambda z: (1 + z.exp()).log(),
    "identity": lambda z: z,
}


def normalize(name: str, v: torch.Tensor) -> torch.Tensor:
    """Normalize one member's state [B, H] by the book."""
    if name == "none":
        return v
    dim = 0 if name == "batch" else 1
    mean = 0 if name == "rms" else v.mean(dim, keepdim=True)
    variance = ((v - mean) ** 2).mean(dim, keepdim=True)
    return (v - mean) / (variance + 1e-5) ** 0.5


def member_weights(network: PackedNetwork, member: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Take one member's layers out of a pack: (weight [in, out], bias [out]) from input to output."""
    first, first_bias, hidden, hidden_bias, last, last_bias = (p.detach()[member].clone() for p in network.parameters)
    middle = [(hidden[layer], hidden_bias[layer]) for layer in range(len(hidden))]
    return [(first, first_bias), *middle, (last, last_bias)]


def plain_stream(trial: TrialConfig, weights: list, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Run one member: the stream states v_1 … v_{D−1} and the logits, for inputs [B, inputs]."""
    k = trial.dilution
    v = x @ weights[0][0] + weights[0][1]
    stream = [v]
    for weight, bias in weights[1:-1]:
        residual = PHI[trial.activation](normalize(trial.normalization, v)) @ weight + bias
        v = (k * v + residual) / math.sqrt(k * k + 1)
        stream.append(v)
    logits = PHI[trial.activation](normalize(trial.normalization, v)) @ weights[-1][0] + weights[-1][1]
    return stream, logits


def from_stream(trial: TrialConfig, weights: list, layer: int, v: torch.Tensor) -> torch.Tensor:
    """Run one member from stream state v_layer (0: from the input) to the logits."""
    if layer == 0:
        return plain_stream(trial, weights, v)[1]
    k = trial.dilution
    for weight, bias in weights[layer:-1]:
        residual = PHI[trial.activation](normalize(trial.normalization, v)) @ weight + bias
        v = (k * v + residual) / math.sqrt(k * k + 1)
    return PHI[trial.activation](normalize(trial.normalization, v)) @ weights[-1][0] + weights[-1][1]


def to_stream(trial: TrialConfig, weights: list, v: torch.Tensor) -> torch.Tensor:
    """Run one member through hidden layers alone (the last of `weights` is not used), from one state to another."""
    k = trial.dilution
    for weight, bias in weights[:-1]:
        residual = PHI[trial.activation](normalize(trial.normalization, v)) @ weight + bias
        v = (k * v + residual) / math.sqrt(k * k + 1)
    return v


def explicit_gsc(source: torch.Tensor, function) -> float:
    """GSC by its definition: the Jacobian of the whole batch written out, float64."""
    target = function(source)
    jacobian = torch.autograd.functional.jacobian(function, source)
    jacobian = jacobian.reshape(target.numel(), source.numel())
    return float(jacobian.norm() / math.sqrt(source.numel()) * source.norm() / target.detach().norm())


def example_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each example [B]."""
    return torch.stack([-(row[label] - row.exp().sum().log()) for row, label in zip(logits, labels, strict=True)])


def autograd_gradients(network: PackedNetwork, trials: list, x: torch.Tensor, labels: torch.Tensor) -> list:
    """Gradients of each member's mean loss, one member and one layer at a time, shaped like `network.parameters`.

    x [E, B, inputs], labels [E, B].
    """
    by_member = []
    for member, trial in enumerate(trials):
        weights = [tuple(t.requires_grad_() for t in layer) for layer in member_weights(network, member)]
        loss = example_losses(plain_stream(trial, weights, x[member])[1], labels[member]).mean()
        grads = torch.autograd.grad(loss, [tensor for layer in weights for tensor in layer])
        of_weights, of_biases = grads[::2], grads[1::2]
        middle = [torch.stack(kind[1:-1]) if len(kind) > 2 else None for kind in (of_weights, of_biases)]
        by_member.append((of_weights[0], of_biases[0], *middle, of_weights[-1], of_biases[-1]))
    return [None if kind[0] is None else torch.stack(kind) for kind in zip(*by_member, strict=True)]


def explicit_module_gsc(model: torch.nn.Module, x: torch.Tensor, name: str) -> float:
    """GSC from a module's output (from the input, for an empty name) to the model's, by putting that output in."""
    caught = []

    def catch(module, arguments, output):
        caught.append((output[0] if isinstance(output, tuple) else output).detach().clone())

    def run(state):
        def put_in(module, arguments, output):
            copy = state.clone()  # what follows may work in place
            return (copy, *output[1:]) if isinstance(output, tuple) else copy

        handle = model.get_submodule(name).register_forward_hook(put_in)
        output = model(x)
        handle.remove()
        return output

    if not name:
        return explicit_gsc(x, model)
    handle = model.get_submodule(name).register_forward_hook(catch)
    model(x)
    handle.remove()
    return explicit_gsc(caught[0], run)
