"""A packed network and a batch → its stream states, and cotangents pulled back through it, layer by layer.

Legend: E members, B examples, H width, D depth, d_t size of the target, P probe vectors.
    v_l  [E, B, H]       stream states, l = 1 … D−1; state 0 is the input x, state D the logits
    g    [E, P, B, H]    gradients of P scalars with respect to a state
Written by hand, because one pass then serves all probe vectors, only what is needed is computed, and gradients can be
rescaled at each layer, so that a thousand layers neither overflow nor underflow.

    v_{l+1} = ( k v_l + φ(N(v_l)) W + b ) / √(k²+1)   ⇒   g_l = ( k g_{l+1} + N'ᵀ( φ' ∘ (g_{l+1} Wᵀ) ) ) / √(k²+1)

N' and φ' are the work of `study.probe_kernels`.
Check: with the identity for φ and no normalization, g_l is g_{l+1} Wᵀ.
"""

import torch

from study.member_products import multiply_members
from study.network import PackedNetwork
from study.probe_kernels import ProbeKernels

SAFE_LOG_NORM = 200.0
"""Gradients are rescaled when ln ‖g‖ is beyond this, long before squares leave the range of float64 at e^±709."""
ENTRIES_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 25}
"""Gradient entries of one state held at once, by type of device; more probe vectors are pulled back in turns."""


class Linearization:
    """The states of all members over a batch, and what is needed to pull gradients back through them; float64.

    Where the compiled library does the work, which is on the CPU, there may be one member.
    """

    def __init__(self, network: PackedNetwork, x: torch.Tensor) -> None:
        """Run a network on inputs [B, inputs], which all members see, or [E, B, inputs], normalizing by this batch."""
        self.network, self.x = network, x if x.dim() == 3 else x[None]
        self.kernels = ProbeKernels(network.activation, network.normalization, x.device.type)
        self.normalized: list[torch.Tensor] = []
        self.slopes: list[torch.Tensor] = []
        self.activated: list[torch.Tensor] = []
        self.stream: list[torch.Tensor] = []
        with torch.no_grad():
            self.logits = network.forward(self.x, self._remember, self.stream)

    def _remember(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        n, slopes, activated = self.kernels.linearize(v)
        self.normalized.append(n)
        self.slopes.append(slopes)
        self.activated.append(activated)
        return n

    @property
    def states(self) -> list[torch.Tensor]:
        """States 0 (input) … D (logits), [E, B, d_s] each; the input has a leading 1 where all members see the same."""
        return [self.x, *self.stream, self.logits]

    @torch.no_grad()
    def pull_back(self, cotangents: torch.Tensor, target: int) -> torch.Tensor:
        """Return ln of the norms of the gradients of Σ cotangent · F_target with respect to each state before it.

        Args:
            cotangents: [E, P, B, d_t].
            target: number of the state they belong to, 1 … D.

        Returns:
            [E, P, target], for states 0 … target − 1; −inf where nothing arrives.
        """
        largest = max(self.stream[0].numel(), cotangents[:, 0].numel())
        chunk = max(1, ENTRIES_AT_ONCE[cotangents.device.type] // largest)
        return torch.cat([self._pull_back(part, target) for part in cotangents.split(chunk, dim=1)], dim=1)

    def _pull_back(self, cotangents: torch.Tensor, target: int) -> torch.Tensor:
        input_weight, _, hidden_weight, _, output_weight, _ = self.network.parameters
        skip = self.network.skip_scale if self.network.skip_scale.any() else None
        hidden_weight = hidden_weight * self.network.residual_scale[:, None]
        log_scale = cotangents.new_zeros(cotangents.shape[:2])
        log_norms = []

        members, vectors, *state = cotangents.shape[:2] + self.stream[0].shape[1:]
        rooms = [cotangents.new_empty(members, vectors, *state) for _ in range(2)]  # written in turn

        def through(layer: int, weight: torch.Tensor, skip: torch.Tensor | None, g_above: torch.Tensor) -> torch.Tensor:
            """Return gradients with respect to v, scaled back to 1 where their norm nears the end of the range."""
            nonlocal log_scale
            g = rooms[layer % 2]
            multiply_members(g_above.flatten(1, 2), weight.mT, out=g.flatten(1, 2))
            log_size = self.kernels.pull_through(g, self.slopes[layer], self.normalized[layer], skip, g_above)
            log_norms.append(log_size + log_scale)
            shift = torch.where(log_size.isfinite() & (log_size.abs() > SAFE_LOG_NORM), log_size, 0.0)
            if g.is_cuda or shift.any():  # to look would make a GPU wait
                g *= torch.exp(-shift)[:, :, None, None]
                log_scale = log_scale + shift
            return g

        g = cotangents.contiguous()
        if target == self.network.depth:
            g = through(target - 2, output_weight, None, g)
            target -= 1
        for layer in range(target - 2, -1, -1):
            g = through(layer, hidden_weight[:, layer], skip, g)
        log_norms.append(_log_norm_at_input(g, input_weight) + log_scale)
        return torch.stack(log_norms[::-1], dim=2)


def _log_norm_at_input(g: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return ln ‖g Wᵀ‖ [E, P]; a wide input goes through WᵀW, which is smaller than the gradient."""
    _, inputs, width = weight.shape
    rows = g.flatten(1, 2)
    if inputs <= 4 * width:
        return torch.linalg.vector_norm((rows @ weight.mT).view(*g.shape[:2], -1), dim=2).log()
    square = ((rows @ (weight.mT @ weight)).view_as(g) * g).sum(dim=(2, 3))
    return 0.5 * square.clamp(min=0).log()
