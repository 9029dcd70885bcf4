"""Trials of one pack and the stacked parameters of their network → one optimizer step for all members.

Legend: L layers, E members.
    p, g   [L, E, …]  a stacked parameter and its gradient
    rate, weight_decay, momentum  [E]

    SGD    b ← momentum · b + g;  p ← p − rate · b
    Adam   m ← m + (1 − β₁)(g − m);  s ← s + (1 − β₂)(g² − s);  p ← p − rate/(1 − β₁ᵗ) · m / (√s/√(1 − β₂ᵗ) + ε)
where g has weight_decay · p added first. One compiled kernel per stacked tensor takes all of a member's layers and all
members at once. Clipping looks at one member at a time, so members never influence each other.
Source: Kingma and Ba, arXiv:1412.6980; the constants and the place of the decay are those of `torch.optim`.
Check: the first step of Adam changes every parameter by the rate, in the direction against its gradient.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from study import native_kernels
from study.kernels import Kernel, compile_kernel
from study.native_library import load_library
from study.trial_config import TrialConfig

BETA_1, BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8


class PackedOptimizer:
    """Adam or SGD over all members of a pack; `step` takes the gradients of the stacked parameters.

    `moments` are what it remembers: for each stacked parameter one (SGD) or two (Adam) tensors of its shape.
    """

    def __init__(
        self,
        trials: Sequence[TrialConfig],
        stacked: Sequence[torch.Tensor],
        total_steps: int,
        *,
        compiled: bool = False,
    ) -> None:
        self.total_steps, self.steps_done = total_steps, 0
        self.stacked = list(stacked)
        self.is_adam = trials[0].optimizer == "adam"
        self.kernel = make_step_kernel(trials[0].optimizer, compiled, stacked[0].device.type)
        self.moments = [
            tuple(torch.zeros_like(parameter) for _ in range(2 if self.is_adam else 1)) for parameter in self.stacked
        ]
        self.layer_scales: list[torch.Tensor] | None = None
        self._describe(trials)

    def _describe(self, trials: Sequence[TrialConfig]) -> None:
        """Put what differs between members into tensors [E, 1]."""
        self.trials = trials

        def per_member(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=self.stacked[0].dtype).unsqueeze(1).to(self.stacked[0].device)

        self.rate = per_member([0.0] * len(trials))
        self.weight_decay = per_member([trial.weight_decay for trial in trials])
        self.momentum = per_member([trial.momentum for trial in trials])
        self.threshold = per_member([trial.clipping_threshold for trial in trials])
        self.root_correction = per_member([1.0])

    def keep(self, members: torch.Tensor, trials: Sequence[TrialConfig], stacked: Sequence[torch.Tensor]) -> None:
        """Drop all members but these (indices, [kept]), whose trials and stacked parameters are given."""
        members = members.to(self.rate.device)
        self.stacked = list(stacked)
        self.moments = [tuple(moment.index_select(1, members) for moment in moments) for moments in self.moments]
        if self.layer_scales is not None:
            self.layer_scales = [scale[:, members] for scale in self.layer_scales]
        self._describe(trials)

    def member_state(self, member: int) -> dict[str, Any]:
        """Return a copy, on the CPU, of all that training has changed for one member."""
        return {
            "steps_done": self.steps_done,
            "moments": [[moment[:, member].cpu().clone() for moment in moments] for moments in self.moments],
            "layer_scales": [scale[:, member].cpu().clone() for scale in self.layer_scales or ()],
        }

    def load_member_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Put back what `member_state` returned for every member, all after the same number of steps."""
        (self.steps_done,) = {state["steps_done"] for state in states}
        for member, state in enumerate(states):
            for moments, stored in zip(self.moments, state["moments"], strict=True):
                for moment, values in zip(moments, stored, strict=True):
                    moment[:, member] = values
        if states[0]["layer_scales"]:
            scales = zip(*(state["layer_scales"] for state in states), strict=True)
            self.layer_scales = [torch.stack(members, dim=1).to(self.rate.device) for members in scales]

    def prepare_step(self) -> None:
        """Write the coming step's rates to the device; apart from `apply`, which a CUDA graph may repeat."""
        rates = torch.tensor(self.learning_rates(), dtype=torch.float64)
        if self.is_adam:
            done = self.steps_done + 1
            rates /= 1 - BETA_1**done
            self.root_correction.fill_(1 / math.sqrt(1 - BETA_2**done))
        rates = rates.unsqueeze(1).to(self.rate.dtype)
        # From pinned memory a copy waits for no earlier step.
        self.rate.copy_(rates.pin_memory() if self.rate.is_cuda else rates, non_blocking=True)
        self.steps_done += 1

    @torch.no_grad()
    def apply(self, gradients: Sequence[torch.Tensor], short_weights: Sequence[torch.Tensor] | None = None) -> None:
        """Clip, scale and apply gradients of the stacked parameters, with the rates of `prepare_step`.

        `short_weights`: copies of the weights in a shorter type, which are to follow them.
        """
        copies = [copy for weight in short_weights for copy in (weight, None)] if short_weights else [None] * 6
        for parameter, gradient, moments, copy in zip(
            self.stacked, self._adjust(gradients), self.moments, copies, strict=True
        ):
            if parameter.numel():
                # One dimension for layers, one for members, one for the rest: the kernel serves every parameter.
                tensors = (tensor.flatten(2) for tensor in (parameter, gradient, *moments))
                short = None if copy is None else copy.flatten(2)
                self.kernel(*tensors, self.rate, self.weight_decay, self.momentum, self.root_correction, short)

    @property
    def is_native(self) -> bool:
        """Whether `apply` makes calls of the compiled library alone."""
        return self._is_plain and self.kernel not in (step_of_adam, step_of_sgd) and not self.rate.is_cuda

    @property
    def _is_plain(self) -> bool:
        """Whether gradients are applied as they are."""
        return self.trials[0].clipping == "none" and not self.trials[0].layerwise_step_sizes

    def step(self, gradients: Sequence[torch.Tensor]) -> None:
        """Take one step."""
        self.prepare_step()
        self.apply(gradients)

    def _adjust(self, gradients: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Return the gradients clipped and scaled as the trials say."""
        if self._is_plain:
            return gradients
        first = self.trials[0]
        gradients = [gradient.to(self.stacked[0].dtype) for gradient in gradients]
        if first.clipping == "value":
            limits = [_over_members(self.threshold, gradient) for gradient in gradients]
            gradients = [
                torch.clamp(gradient, -limit, limit) for gradient, limit in zip(gradients, limits, strict=True)
            ]
        if first.layerwise_step_sizes and self.layer_scales is None:
            # Of values as they are clipped, for that changes some layers more than others.
            self.layer_scales = layerwise_scales(self.stacked, gradients)
        if first.clipping == "norm":
            norm = gradient_norm(gradients).unsqueeze(1)
            shrink = torch.where(norm > self.threshold, self.threshold / norm, 1)
            gradients = [(gradient * _over_members(shrink, gradient)).to(gradient.dtype) for gradient in gradients]
        if self.layer_scales is not None:
            gradients = [
                (gradient * scale).to(gradient.dtype)
                for gradient, scale in zip(gradients, self.layer_scales, strict=True)
            ]
        return gradients

    def learning_rates(self) -> list[float]:
        """Return the learning rate of each member's next step."""
        progress = self.steps_done / self.total_steps if self.total_steps else 0.0
        return [trial.learning_rate * schedule_factor(trial.schedule, progress) for trial in self.trials]


@functools.cache
def make_step_kernel(optimizer: str, compiled: bool, device_type: str = "cpu") -> Kernel:
    """Return the kernel that updates one stacked parameter [L, E, n] in place."""
    kernel = step_of_adam if optimizer == "adam" else step_of_sgd
    if not compiled:
        return kernel
    if device_type != "cpu":
        return compile_kernel(kernel)
    if load_library() is None:
        return kernel
    if optimizer == "adam":
        return functools.partial(native_kernels.step_of_adam, betas=(BETA_1, BETA_2), epsilon=ADAM_EPSILON)
    return native_kernels.step_of_sgd


def step_of_adam(
    p: torch.Tensor,
    g: torch.Tensor,
    m: torch.Tensor,
    s: torch.Tensor,
    rate: torch.Tensor,
    weight_decay: torch.Tensor,
    momentum: torch.Tensor,
    root_correction: torch.Tensor,
    short: torch.Tensor | None,
) -> None:
    """Update p, m, s and a copy of p; `rate` is divided by 1 − β₁ᵗ already, `root_correction` is 1/√(1 − β₂ᵗ)."""
    g = g.to(p.dtype) + weight_decay * p
    m.lerp_(g, 1 - BETA_1)
    s.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
    p.sub_(rate * m / (s.sqrt() * root_correction + ADAM_EPSILON))
    if short is not None:
        short.copy_(p)


def step_of_sgd(
    p: torch.Tensor,
    g: torch.Tensor,
    b: torch.Tensor,
    rate: torch.Tensor,
    weight_decay: torch.Tensor,
    momentum: torch.Tensor,
    root_correction: torch.Tensor,
    short: torch.Tensor | None,
) -> None:
    """Update p, b and a copy of p."""
    b.mul_(momentum).add_(g.to(p.dtype) + weight_decay * p)
    p.sub_(rate * b)
    if short is not None:
        short.copy_(p)


def schedule_factor(schedule: str, progress: float) -> float:
    """Return what the learning rate is multiplied by, `progress` being the share of all steps already done."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 1.0


@torch.no_grad()
def gradient_norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the norm of each member's gradient over all of its parameters, float64 [E]; gradients are [L, E, …].

    Squares of gradients that explode, or vanish, leave the range of fp32 long before the gradients do.
    """
    # Added one by one: how a reduction over the few tensors is ordered would depend on the number of members.
    square = torch.zeros(gradients[0].shape[1], dtype=torch.float64, device=gradients[0].device)
    for gradient in gradients:
        for layer in gradient:
            square += torch.linalg.vector_norm(layer.flatten(1), dim=1, dtype=torch.float64).square()
    return square.sqrt()


@torch.no_grad()
def layerwise_scales(stacked: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return, per stacked tensor, ‖W_l‖/‖∂W_l‖ of its layers, so that a step of size η changes each layer by η·‖W_l‖.

    A bias takes the scale of its layer's weight; a layer without gradient gets 0. Each result is float64 and broadcasts
    over its tensor; weights and biases alternate in `stacked`.

    Source: the layer-wise step sizes for SGD of arXiv:1712.05577.
    """
    scales = []
    for weight, gradient in zip(stacked[::2], gradients[::2], strict=True):
        norm, size = (torch.linalg.vector_norm(x, dim=(-2, -1), dtype=torch.float64) for x in (gradient, weight))
        scale = torch.where(norm > 0, size / norm, 0)
        scales += [scale[..., None, None], scale[..., None]]
    return scales


def _over_members(per_member: torch.Tensor, stacked: torch.Tensor) -> torch.Tensor:
    """Shape a value per member [E, 1] so that it broadcasts over a stacked tensor [L, E, …]."""
    return per_member.reshape(-1, *[1] * (stacked.dim() - 2))
