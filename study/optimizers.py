"""Trials and the stacked parameters of their network → one optimizer step for all members.

A member is a parameter group of `torch.optim`, made of its slices of the stacked tensors, with its own learning rate,
momentum and weight decay. Clipping, too, looks at one member at a time, so members never influence each other.
"""

import math
from collections.abc import Sequence

import torch

from study.trial_config import TrialConfig


class PackedOptimizer:
    """Adam or SGD over all members of a pack; `step` takes the gradients of the stacked parameters."""

    def __init__(self, trials: Sequence[TrialConfig], parameters: Sequence[torch.Tensor], total_steps: int) -> None:
        self.trials, self.total_steps, self.steps_done = trials, total_steps, 0
        self.clipping = trials[0].clipping
        self.threshold = torch.tensor(
            [trial.clipping_threshold for trial in trials], dtype=parameters[0].dtype, device=parameters[0].device
        )
        self.layer_scales: list[torch.Tensor] | None = None
        self.optimizer = _build_optimizer(trials, parameters)
        self.weights = parameters

    def keep(self, members: torch.Tensor, trials: Sequence[TrialConfig], parameters: Sequence[torch.Tensor]) -> None:
        """Drop all members but these (indices, [kept]), whose trials and stacked parameters are given."""
        kept = _build_optimizer(trials, parameters)
        for group, member in zip(kept.param_groups, members.tolist(), strict=True):
            for parameter, earlier in zip(group["params"], self.optimizer.param_groups[member]["params"], strict=True):
                kept.state[parameter] = self.optimizer.state[earlier]
        members = members.to(self.threshold.device)
        self.optimizer, self.weights, self.trials = kept, parameters, trials
        self.threshold = self.threshold[members]
        if self.layer_scales is not None:
            self.layer_scales = [scale[members] for scale in self.layer_scales]

    @torch.no_grad()
    def step(self, gradients: Sequence[torch.Tensor]) -> None:
        """Clip, scale and apply the gradients; may change them in place. Advances the schedule."""
        if self.trials[0].layerwise_step_sizes and self.layer_scales is None:
            self.layer_scales = layerwise_scales(self.weights, gradients)
        if self.clipping == "value":
            for gradient in gradients:
                limit = _over_members(self.threshold, gradient)
                torch.clamp(gradient, -limit, limit, out=gradient)
        elif self.clipping == "norm":
            norm = gradient_norm(gradients)
            shrink = torch.where(norm > self.threshold, self.threshold / norm, 1)
            for gradient in gradients:
                gradient.mul_(_over_members(shrink, gradient))
        if self.layer_scales is not None:
            for gradient, scale in zip(gradients, self.layer_scales, strict=True):
                gradient.mul_(scale)
        for member, (group, rate) in enumerate(zip(self.optimizer.param_groups, self.learning_rates(), strict=True)):
            group["lr"] = rate
            for parameter, gradient in zip(group["params"], gradients, strict=True):
                parameter.grad = gradient[member]
        self.optimizer.step()
        self.steps_done += 1

    def learning_rates(self) -> list[float]:
        """Return the learning rate of each member's next step."""
        progress = self.steps_done / self.total_steps if self.total_steps else 0.0
        return [trial.learning_rate * schedule_factor(trial.schedule, progress) for trial in self.trials]


def _build_optimizer(trials: Sequence[TrialConfig], parameters: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    """Return torch's optimizer with a parameter group per member, made of views of the stacked parameters."""
    groups = [
        {
            "params": [parameter.detach()[member] for parameter in parameters],
            "lr": trial.learning_rate,
            "weight_decay": trial.weight_decay,
            **({"momentum": trial.momentum} if trial.optimizer == "sgd" else {}),
        }
        for member, trial in enumerate(trials)
    ]
    kind = torch.optim.SGD if trials[0].optimizer == "sgd" else torch.optim.Adam
    return kind(groups, fused=True)


def schedule_factor(schedule: str, progress: float) -> float:
    """Return what the learning rate is multiplied by, `progress` being the share of all steps already done."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
    return 1.0


@torch.no_grad()
def gradient_norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the norm of each member's gradient over all of its parameters, [E]."""
    # Added one by one: how a reduction over the few tensors is ordered would depend on the number of members.
    square = torch.zeros(len(gradients[0]), dtype=torch.float64, device=gradients[0].device)
    for gradient in gradients:
        square += torch.linalg.vector_norm(gradient.flatten(1), dim=1).to(torch.float64).square()
    return square.sqrt().to(gradients[0].dtype)


@torch.no_grad()
def layerwise_scales(parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return, per stacked tensor, ‖W_l‖/‖∂W_l‖ of its layers, so that a step of size η changes each layer by η·‖W_l‖.

    A bias takes the scale of its layer's weight; a layer without gradient gets 0. Each result broadcasts over its
    tensor; weights and biases alternate in `parameters`. Source: the layer-wise step sizes for SGD of arXiv:1712.05577.
    """
    scales = []
    for weight, gradient in zip(parameters[::2], gradients[::2], strict=True):
        norm = torch.linalg.vector_norm(gradient, dim=(-2, -1))
        scale = torch.where(norm > 0, torch.linalg.vector_norm(weight, dim=(-2, -1)) / norm, 0)
        scales += [scale[..., None, None], scale[..., None]]
    return scales


def _over_members(per_member: torch.Tensor, stacked: torch.Tensor) -> torch.Tensor:
    """Shape a value per member [E] so that it broadcasts over a stacked tensor [E, …]."""
    return per_member.reshape(-1, *[1] * (stacked.dim() - 1))
