"""A packed network and a split → classification error and loss of every member, in evaluation mode."""

import math

import torch

from study.backpropagation import PRODUCT_DTYPES
from study.datasets import DeviceSplit
from study.kernels import BlockKernels
from study.member_products import multiply_members
from study.network import PackedNetwork

EVALUATION_BATCH = 500
"""Images evaluated at once; a constant, because the batch size may change the last bits of a result."""


@torch.no_grad()
def evaluate(
    network: PackedNetwork, split: DeviceSplit, kernels: BlockKernels, precision: str = "fp32"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return classification error and mean loss of each member over a whole split, float64 [E] on the CPU.

    Where the loss is not finite there is no classification, and the error is nan.
    """
    wrong = torch.zeros(network.member_count, dtype=torch.float64, device=split.images.device)
    loss = torch.zeros_like(wrong)
    forward = EvaluationPass(network, kernels, precision)
    for start in range(0, len(split), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        logits = forward.logits(split.standardised(rows, network.stacked[0].dtype))
        labels = split.labels[rows].expand(network.member_count, -1)
        wrong += (logits.argmax(dim=2) != labels).sum(dim=1)
        loss += cross_entropy(logits, labels).sum(dim=1, dtype=torch.float64)
    error = torch.where(loss.isfinite(), wrong / len(split), math.nan)
    return error.cpu(), (loss / len(split)).cpu()


class EvaluationPass:
    """The forward pass of all members over examples that they share."""

    def __init__(self, network: PackedNetwork, kernels: BlockKernels, precision: str) -> None:
        self.network, self.kernels = network, kernels
        self.short = PRODUCT_DTYPES[precision] or network.stacked[0].dtype
        self.weights = [weight.to(self.short) for weight in network.stacked[::2]]
        self.one, self.nil = torch.ones_like(network.residual_scale), torch.zeros_like(network.skip_scale)
        self.has_skip = bool(network.skip_scale.any())
        self.room: list[torch.Tensor] = []

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [E, B, C] of examples [B, inputs]; what lies between has examples as its last axis."""
        network, (input_weight, hidden_weight, output_weight) = self.network, self.weights
        _, input_bias, _, hidden_bias, _, output_bias = network.stacked
        self._make_room(len(x))
        (a, product), states = self.room[:2], self.room[2:]
        v, v_next = (states[0].zero_(), states[1]) if states else (None, None)
        shared = x.to(self.short).expand(network.member_count, -1, -1)
        multiply_members(input_weight[0].mT, shared.mT, out=product)
        for layer in range(network.depth - 1):
            last = layer == network.depth - 2
            self.kernels.advance_evaluating(
                v,
                product,
                (hidden_bias[layer - 1] if layer else input_bias[0]).unsqueeze(2),
                network.skip_scale if layer else self.nil,
                network.residual_scale if layer else self.one,
                self.one if last else network.residual_scale,
                network.running.mean[layer],
                network.running.variance[layer],
                v_next,
                a,
            )
            v, v_next = v_next, v  # both None without skip paths
            if not last:
                multiply_members(hidden_weight[layer].mT, a, out=product)
        multiply_members(output_weight[0].mT, a, out=self.of_classes)
        return self.of_classes.mT.to(output_bias.dtype) + output_bias[0].unsqueeze(1)

    def _make_room(self, batch_size: int) -> None:
        """Make room for an activation and a product and, with skip paths, two states; again for another batch."""
        if not self.room or self.room[0].shape[2] != batch_size:
            members, width, classes = self.weights[2].shape[1:]
            kinds = (self.short,) * 2 + (self.network.stacked[0].dtype,) * (2 * self.has_skip)
            self.room = [self.one.new_zeros(members, width, batch_size, dtype=kind) for kind in kinds]
            self.of_classes = self.one.new_zeros(members, classes, batch_size, dtype=self.short)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of each example [E, B] in nats; logits [E, B, C], labels [E, B]."""
    return -logits.log_softmax(dim=2).gather(2, labels[:, :, None])[:, :, 0]
