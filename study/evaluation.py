"""A packed network and a split → classification error and loss of every member, in evaluation mode."""

import math
from collections.abc import Sequence

import torch

from study.backpropagation import PRODUCT_DTYPES
from study.device_split import DeviceSplit
from study.kernels import BlockKernels
from study.member_products import multiplies_natively, multiply_members
from study.native_calls import written_down
from study.network import PackedNetwork
from study.work import EVALUATION_BATCH

STATE_ENTRIES_ON_GPU = 1 << 25
"""Entries of one state of all members that are evaluated at once on a GPU: 128 MiB, of which there are some five."""
MOST_IMAGES_ON_GPU = 10_000
"""Images evaluated at once on a GPU, as inputs of networks 120 MB."""


@torch.no_grad()
def evaluate(
    network: PackedNetwork, split: DeviceSplit, kernels: BlockKernels, precision: str = "fp32"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return classification error and mean loss of each member over a whole split, float64 [E] on the CPU.

    Where the loss is not finite there is no classification, and the error is nan.
    """
    wrong = torch.zeros(network.member_count, dtype=torch.float64, device=split.images.device)
    loss = torch.zeros_like(wrong)
    weights = [weight.to(PRODUCT_DTYPES[precision] or weight.dtype) for weight in network.stacked[::2]]
    _, members, width, _ = network.stacked[4].shape
    batch_size = evaluation_batch(split.images.device.type, members, width)
    forward = None
    for rows in torch.arange(len(split), device=split.images.device).split(batch_size):
        if forward is None or len(rows) != len(forward.rows):
            forward = None  # first, or there would be room for both
            forward = EvaluationPass(network, weights, split, kernels, len(rows))
        is_wrong, losses = score(forward.logits(rows), split.labels[rows])
        wrong += is_wrong.sum(dim=1)
        loss += losses.sum(dim=1, dtype=torch.float64)
    error = torch.where(loss.isfinite(), wrong / len(split), math.nan)
    return error.cpu(), (loss / len(split)).cpu()


def evaluation_batch(device_type: str, members: int, width: int) -> int:
    """Return how many images to evaluate at once; on a GPU enough of them that it is not idle between calls."""
    if device_type == "cpu":
        return EVALUATION_BATCH
    return min(max(EVALUATION_BATCH, STATE_ENTRIES_ON_GPU // (members * width)), MOST_IMAGES_ON_GPU)


class EvaluationPass:
    """The forward pass of all members over batches of one size, whose examples they share."""

    def __init__(
        self,
        network: PackedNetwork,
        weights: Sequence[torch.Tensor],
        split: DeviceSplit,
        kernels: BlockKernels,
        batch_size: int,
    ) -> None:
        """`weights`: the network's, in the type of products."""
        self.network, self.split, self.kernels = network, split, kernels
        self.input_weight, self.hidden_weight, self.output_weight = weights
        weight, short = network.stacked[0], weights[0].dtype
        # No kernel is given one tensor twice: it would be compiled once more for that.
        self.residual, self.scale = network.residual_scale.clone(), network.residual_scale.clone()
        self.first_residual, self.last_scale = (torch.ones_like(self.scale) for _ in range(2))
        self.first_skip = torch.zeros_like(network.skip_scale)
        self.factor, self.shift = split.by_pixel(weight.dtype)
        members, width, classes = self.output_weight.shape[1:]
        self.rows = torch.zeros(batch_size, dtype=torch.int64, device=weight.device)
        self.x = weight.new_zeros(1, batch_size, weight.shape[2], dtype=short)
        self.a, self.product = (weight.new_zeros(members, width, batch_size, dtype=short) for _ in range(2))
        self.of_classes = weight.new_zeros(members, classes, batch_size, dtype=short)
        has_skip = bool(network.skip_scale.any())
        self.states = [weight.new_zeros(members, width, batch_size) for _ in range(2)] if has_skip else [None, None]
        """Read and written in turn."""
        is_native = kernels.are_native and multiplies_natively(weight.device.type, short)
        self.going = written_down(self._go) if is_native else None

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the logits [E, C, B] of the images `rows` [B]."""
        self.rows.copy_(rows)
        (self.going.make if self.going else self._go)()
        output_bias = self.network.stacked[5]
        return self.of_classes.to(output_bias.dtype) + output_bias[0].unsqueeze(2)

    def _go(self) -> None:
        """Fill `of_classes` [E, C, B], the logits without their bias; in between examples are the last axis."""
        network = self.network
        input_bias, hidden_bias, _ = network.stacked[1::2]
        self.kernels.take_images(self.split.images, self.rows.unsqueeze(0), self.factor, self.shift, self.x)
        shared = self.x.expand(network.member_count, -1, -1)
        multiply_members(self.input_weight[0].mT, shared.mT, out=self.product)
        for layer in range(network.depth - 1):
            last = layer == network.depth - 2
            self.kernels.advance_evaluating(
                self.states[layer % 2],  # at first of no effect
                self.product,
                (hidden_bias[layer - 1] if layer else input_bias[0]).unsqueeze(2),
                network.skip_scale if layer else self.first_skip,
                self.residual if layer else self.first_residual,
                self.last_scale if last else self.scale,
                network.running.mean[layer],
                network.running.variance[layer],
                self.states[(layer + 1) % 2],
                self.a,
            )
            if not last:
                multiply_members(self.hidden_weight[layer].mT, self.a, out=self.product)
        multiply_members(self.output_weight[0].mT, self.a, out=self.of_classes)


def score(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which examples are classified wrongly, and their losses in nats, [E, B] each.

    logits [E, C, B], labels [B]. Of equal logits the first one counts.
    """
    index = labels.expand(len(logits), 1, -1)
    return logits.max(dim=1).indices != labels, -logits.log_softmax(dim=1).gather(1, index).squeeze(1)
