"""Trials of one pack → a network whose every tensor has the members as its leading axis.

Legend: E members, B examples, H width, D depth, C classes.
    x    [E, B, inputs] or [B, inputs] (all members see the same examples)
    v_l  [E, B, H]      stream states, l = 1 … D−1: pre-activations before normalization
    k    [E, 1, 1]      dilution level

    v_1     = x W_1 + b_1
    v_{l+1} = ( k v_l + φ(N(v_l)) W_{l+1} + b_{l+1} ) / √(k²+1)      l = 1 … D−2
    logits  = φ(N(v_{D−1})) W_D + b_D                                [E, B, C]

Check: with k → ∞ every v_l equals v_1; with k = 0 this is a plain multilayer perceptron.
Source: Philipp, Song and Carbonell, arXiv:1712.05577 (dilution); the member axis is ours.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from study.activations import ACTIVATION_TABLE
from study.daemon_threads import DaemonThreads
from study.initialization import INITIALIZATION_TABLE, LayerShape
from study.mean_field import resolve_gain, resolve_input_gain
from study.member_products import multiply_members
from study.normalizations import NORMALIZATION_TABLE
from study.random_streams import make_generator
from study.running_statistics import RunningStatistics
from study.trial_config import TrialConfig

Normalizer = Callable[[int, torch.Tensor], torch.Tensor]
"""Maps the index of a stream state (0 for v_1) and the state to its normalized form."""
Weights = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of the first layer, of the hidden ones, and of the last."""
DRAWING_THREADS = 8
STATE_NAMES = (
    "input_weight",
    "input_bias",
    "hidden_weight",
    "hidden_bias",
    "output_weight",
    "output_bias",
    "running_mean",
    "running_variance",
)
"""Tensors of a member's state, by name."""


class PackedNetwork:
    """The networks of all members of a pack, and the running statistics of their batch normalization.

    `stacked` are six tensors with a leading axis of layers, so that one layer of all members lies together:
    input_weight [1, E, inputs, H], input_bias [1, E, H], hidden_weight [D−2, E, H, H], hidden_bias [D−2, E, H],
    output_weight [1, E, H, C], output_bias [1, E, C]. Biases start at zero.
    """

    def __init__(
        self,
        trials: Sequence[TrialConfig],
        input_size: int,
        class_count: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        depth, width = trials[0].depth, trials[0].width
        self.depth, self.normalization = depth, NORMALIZATION_TABLE[trials[0].normalization]
        self.activation = trials[0].activation
        draw = functools.partial(_draw_weights, input_size=input_size, class_count=class_count, dtype=dtype)
        # On the CPU every core trains a pack. A GPU would wait: a thread draws 64 members of depth 50 in two seconds.
        weights = draw_members(draw, trials, threads=1 if torch.device(device).type == "cpu" else DRAWING_THREADS)

        def stack(draws: Iterable[torch.Tensor]) -> torch.Tensor:
            return torch.stack(list(draws), dim=1).to(device)

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(*shape, device=device, dtype=dtype)

        self.stacked = [
            stack(first for first, _, _ in weights),
            zeros(1, len(trials), width),
            stack(hidden for _, hidden, _ in weights),
            zeros(depth - 2, len(trials), width),
            stack(last for _, _, last in weights),
            zeros(1, len(trials), class_count),
        ]
        k = torch.tensor([trial.dilution for trial in trials], dtype=torch.float64)[:, None, None]
        length = torch.hypot(k, torch.ones_like(k))
        self.skip_scale = (k / length).to(device, dtype)
        self.residual_scale = (1 / length).to(device, dtype)
        self.running = RunningStatistics(
            mean=zeros(depth - 1, len(trials), 1, width), variance=1 + zeros(depth - 1, len(trials), 1, width)
        )

    @property
    def member_count(self) -> int:
        """Number of members, E."""
        return len(self.skip_scale)

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The same memory as `stacked` with members first: input_weight [E, inputs, H], …, hidden_bias [E, D−2, H]."""
        return [
            tensor.transpose(0, 1) if is_hidden else tensor[0]
            for tensor, is_hidden in zip(self.stacked, (False, False, True, True, False, False), strict=True)
        ]

    def activate(self, n: torch.Tensor) -> torch.Tensor:
        """Return φ(n)."""
        return ACTIVATION_TABLE[self.activation].function(n)

    def forward(self, x: torch.Tensor, normalize: Normalizer, stream: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Return logits [E, B, C]; append the stream states v_1 … v_{D−1} to `stream` when it is given.

        The plain form of the network, for measurements; training and evaluation go through `study.kernels`.
        """
        input_weight, input_bias, hidden_weight, hidden_bias, output_weight, output_bias = self.stacked
        x = x.expand(self.member_count, -1, -1)
        v = multiply_members(x, input_weight[0]) + input_bias[0].unsqueeze(1)
        for layer, (weight, bias) in enumerate(zip(hidden_weight, hidden_bias, strict=True)):
            if stream is not None:
                stream.append(v)
            residual = multiply_members(self.activate(normalize(layer, v)), weight) + bias.unsqueeze(1)
            v = self.skip_scale * v + self.residual_scale * residual
        if stream is not None:
            stream.append(v)
        logits = multiply_members(self.activate(normalize(self.depth - 2, v)), output_weight[0])
        return logits + output_bias[0].unsqueeze(1)

    def normalize_by_batch(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        """Normalize with the statistics of this batch and leave the running ones untouched: what probes use."""
        return self.normalization.normalize(v)

    def normalize_for_evaluation(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        """Normalize with the running statistics, so that one example's result does not depend on the others."""
        if self.normalization.couples_examples:
            return self.running.normalize(layer, v)
        return self.normalization.normalize(v)

    def select(self, members: slice, dtype: torch.dtype) -> "PackedNetwork":
        """Return a copy of some members in another precision, for measurements."""
        copy = object.__new__(PackedNetwork)
        copy.depth, copy.normalization, copy.activation = self.depth, self.normalization, self.activation
        copy.stacked = [tensor[:, members].to(dtype, copy=True) for tensor in self.stacked]
        copy.skip_scale = self.skip_scale[members].to(dtype)
        copy.residual_scale = self.residual_scale[members].to(dtype)
        copy.running = RunningStatistics(
            mean=self.running.mean[:, members].to(dtype), variance=self.running.variance[:, members].to(dtype)
        )
        return copy

    def keep(self, members: torch.Tensor) -> None:
        """Drop all members but these (indices, [kept])."""
        members = members.to(self.skip_scale.device)
        self.stacked = [tensor.index_select(1, members) for tensor in self.stacked]
        self.skip_scale, self.residual_scale = self.skip_scale[members], self.residual_scale[members]
        self.running = RunningStatistics(self.running.mean[:, members], self.running.variance[:, members])

    def member_state(self, member: int) -> dict[str, torch.Tensor]:
        """Return a copy, on the CPU, of all that training has changed in one member."""
        tensors = [parameter[member] for parameter in self.parameters]
        tensors += [self.running.mean[:, member], self.running.variance[:, member]]
        return {name: tensor.cpu().clone() for name, tensor in zip(STATE_NAMES, tensors, strict=True)}

    def load_member_state(self, member: int, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what `member_state` returned."""
        tensors = [parameter[member] for parameter in self.parameters]
        tensors += [self.running.mean[:, member], self.running.variance[:, member]]
        for name, tensor in zip(STATE_NAMES, tensors, strict=True):
            tensor.copy_(state[name])

    def finite_members(self) -> torch.Tensor:
        """Return a truth value per member [E]: are all of its parameters finite?"""
        return torch.stack([parameter.isfinite().flatten(1).all(1) for parameter in self.parameters]).all(0)


def draw_members(draw: Callable[[TrialConfig], Weights], trials: Sequence[TrialConfig], threads: int) -> list[Weights]:
    """Return what `draw` does of every trial."""
    if threads == 1:
        return list(map(draw, trials))
    with DaemonThreads(threads, "weights") as pool:
        return pool.do_each(draw, trials)


def _draw_weights(trial: TrialConfig, input_size: int, class_count: int, dtype: torch.dtype) -> Weights:
    """Draw one member's weights, in float64, then rounded: first [1, inputs, H], hidden [D−2, H, H], last [1, H, C]."""
    draw = INITIALIZATION_TABLE[trial.initialization].draw
    sizes = [input_size] + [trial.width] * (trial.depth - 1) + [class_count]
    layers = []
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        first, last = layer == 0, layer == trial.depth - 1
        gain = resolve_input_gain(trial.gain) if first else resolve_gain(trial.gain, trial.activation)
        # Depth is part of the purpose: networks of two depths are independent draws, as statistics over depths assume.
        generator = make_generator(trial.seed, f"weights of depth {trial.depth}", layer)
        layers.append((gain * draw(LayerShape(fan_in, fan_out, first, last), generator)).to(dtype))
    hidden = torch.stack(layers[1:-1]) if trial.depth > 2 else torch.empty(0, trial.width, trial.width, dtype=dtype)
    return layers[0][None], hidden, layers[-1][None]
