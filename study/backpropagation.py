"""A packed network and a batch → the gradient of every member's loss, by a backward pass written by hand.

Legend: E members, B examples, H width, D depth; n_l, a_l, g_l as in `study.kernels`, l = 1 … D−1.

    forward:   product_1 = W_1ᵀ xᵀ;  advance → n_l, a_l;  product_{l+1} = W_{l+1}ᵀ a_l;  logits = W_Dᵀ a_{D−1} + b_D
    backward:  ∂logits = (softmax − one-hot)/B;  g_a = W_D ∂logits;  pull_back → g_l, a_l;
               ∂W_{l+1} = a_l g_{l+1}ᵀ (∂logits for the last);  g_a = W_l g_l;  …  ∂W_1 = xᵀ g_1ᵀ

x is [E, B, inputs], as images lie; of everything else examples are the last axis.

The loss is the sum over members of their own means, so a member's gradient is what it would be alone. Of the forward
pass n alone is kept, one [E, H, B] per layer; all tensors are made once, so that steps allocate nothing (page faults
cost as much as a product) and can be captured in a CUDA graph. Products are in fp32 or, with precision bf16, in
bfloat16; states, moments and biases are always in the type of the network.

On a GPU, and wherever calls take long, all members go through a layer at once. Where calls cost nothing, one member
after the other goes through all layers, in the same tensors: the caches hold more of what it needs.

Check: `tests/reference.py` has the same gradients from autograd.
"""

from collections.abc import Callable

import torch

from study.kernels import BlockKernels
from study.member_products import multiplies_natively, multiply_members
from study.network import PackedNetwork
from study.normalizations import EXAMPLES, UNITS

PRODUCT_DTYPES = {"fp32": None, "bf16": torch.bfloat16}
"""Precision → the type of matrix products; None is the network's own."""
RUNNING_MOMENTUM = 0.1
"""Of batch normalization's running averages, as in `torch.nn.BatchNorm1d`."""


class Backpropagation:
    """Gradients of one network for batches of one size; holds all tensors that a step needs.

    In comments and shapes of this class, A is the number of members that go through the network at once.
    """

    def __init__(self, network: PackedNetwork, kernels: BlockKernels, batch_size: int, precision: str = "fp32") -> None:
        self.network, self.kernels = network, kernels
        weight = network.stacked[0]
        self.short = PRODUCT_DTYPES[precision] or weight.dtype
        _, self.members, inputs, width = weight.shape
        self.is_native = kernels.are_native and multiplies_natively(weight.device.type, self.short)
        """Whether `run` makes calls of the compiled library alone, and what it is given to call."""
        self.at_once = 1 if self.is_native else self.members
        states, classes = network.depth - 1, network.stacked[4].shape[-1]

        def empty(*shape: int, dtype: torch.dtype = weight.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=weight.device)

        state = (self.at_once, width, batch_size)
        self.x = empty(self.at_once, batch_size, inputs, dtype=self.short)
        self.n = [empty(*state) for _ in range(states)]
        moment = {None: (1, 1), EXAMPLES: (1, width), UNITS: (batch_size, 1)}[network.normalization.axis]
        self.mean, self.variance = (empty(states, self.members, *moment) for _ in range(2))
        self.has_skip = bool(network.skip_scale.any())
        self.zero = empty(*state) if self.has_skip else None
        is_short = self.short != weight.dtype
        streams = [empty(*state), empty(*state)]
        self.streams = streams if self.has_skip or not is_short else None
        """Two states, or two gradients, that are read and written in turn."""
        self.short_streams = [empty(*state, dtype=self.short) for _ in range(2)] if is_short else None
        self.multiplied = self.short_streams or streams
        """Those of them that products take."""
        self.a, self.product = (empty(*state, dtype=self.short) for _ in range(2))
        self.logits, self.g_logits = (empty(self.at_once, classes, batch_size, dtype=self.short) for _ in range(2))
        # No kernel is given one tensor twice: it would be compiled once more for that.
        self.skip, self.residual, self.scale = (
            factor.clone() for factor in (network.skip_scale, network.residual_scale, network.residual_scale)
        )
        self.first_skip, self.first_residual, self.last_scale = (
            torch.full_like(self.skip, value) for value in (0.0, 1.0, 1.0)
        )
        self.gradients = [
            torch.zeros_like(parameter, dtype=self.short if is_weight else parameter.dtype)
            for parameter, is_weight in zip(network.stacked, (True, False) * 3, strict=True)
        ]
        """Like `network.stacked`; those of weights in the type of products."""
        self.short_weights = [w.to(self.short) for w in network.stacked[::2]] if is_short else None
        """Copies of the weights in the type of products; whoever changes the weights has to change them as well."""
        self._cut_into_layers()

    def _cut_into_layers(self) -> None:
        """Make views of all layers: weights [E, in, out] and their transposes, biases [E, H, 1], gradients of both."""
        input_weight, hidden_weight, output_weight = self.short_weights or self.network.stacked[::2]
        self.weights = [input_weight[0], *hidden_weight, output_weight[0]]
        self.transposed = [weight.mT for weight in self.weights]
        self.biases, self.to_biases = (
            [input_bias[0].unsqueeze(2), *hidden_bias.unsqueeze(3)]
            for input_bias, hidden_bias, _ in (self.network.stacked[1::2], self.gradients[1::2])
        )
        to_input, to_hidden, to_output = self.gradients[::2]
        self.to_weights = [to_input[0], *to_hidden, to_output[0]]

    @torch.no_grad()
    def run(self, take: Callable[[slice, torch.Tensor], None], labels: torch.Tensor) -> list[torch.Tensor]:
        """Fill and return `gradients` for labels [E, B] and inputs that `take` writes.

        `take` is called with some of the members and a tensor [A, B, inputs] for theirs. Batch normalization's running
        statistics move towards the moments of this batch.
        """
        output_bias, to_output_bias = self.network.stacked[5][0], self.gradients[5][0]
        for first in range(0, self.members, self.at_once):
            some = slice(first, first + self.at_once)
            take(some, self.x)
            self._forward(some)
            self.kernels.pull_back_loss(
                self.logits, output_bias[some], labels[some], self.g_logits, to_output_bias[some]
            )
            self._backward(some)
        if self.network.normalization.couples_examples:
            running, examples = self.network.running, labels.shape[1]
            self.kernels.average(running.mean, self.mean, RUNNING_MOMENTUM, 1.0)
            self.kernels.average(running.variance, self.variance, RUNNING_MOMENTUM, examples / (examples - 1))
        return self.gradients

    def _forward(self, some: slice) -> None:
        """Fill `n`, `mean`, `variance`, and `logits` without their bias, for these members."""
        multiply_members(self.transposed[0][some], self.x.mT, out=self.product)
        v = self.zero
        for layer, n in enumerate(self.n):
            last = n is self.n[-1]
            v_next = self.streams[layer % 2] if self.has_skip and self.streams else None
            self.kernels.advance(
                v,
                self.product,
                self.biases[layer][some],
                (self.skip if layer else self.first_skip)[some],
                (self.residual if layer else self.first_residual)[some],
                (self.last_scale if last else self.scale)[some],
                v_next,
                n,
                self.a,
                self.mean[layer][some],
                self.variance[layer][some],
            )
            if self.has_skip:
                v = n if self.network.normalization.axis is None else v_next
            multiply_members(self.transposed[layer + 1][some], self.a, out=self.logits if last else self.product)

    def _backward(self, some: slice) -> None:
        """Fill `gradients` of these members but for the last bias, from `g_logits`."""
        g_above = self.g_logits
        multiply_members(self.weights[-1][some], g_above, out=self.product)
        g_next = self.zero
        for layer in range(len(self.n) - 1, -1, -1):
            last = layer == len(self.n) - 1
            g = None if self.streams is None else self.streams[layer % 2]
            g_short = None if self.short_streams is None else self.short_streams[layer % 2]
            self.kernels.pull_back(
                self.product,
                self.n[layer],
                self.variance[layer][some],
                (self.last_scale if last else self.scale)[some],
                g_next,
                (self.first_skip if last else self.skip)[some],
                (self.residual if layer else self.first_residual)[some],
                g,
                g_short,
                self.a,
                self.to_biases[layer][some],
            )
            multiply_members(self.a, g_above.mT, out=self.to_weights[layer + 1][some])
            g_above = self.multiplied[layer % 2]
            if self.has_skip:
                g_next = g
            if layer:
                multiply_members(self.weights[layer][some], g_above, out=self.product)
        multiply_members(self.x.mT, g_above.mT, out=self.to_weights[0][some])
