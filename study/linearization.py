"""One network and a batch → its stream states, and cotangents pulled back through it, layer by layer.

Legend: B examples, H width, D depth, d_t size of the target, P probe vectors.
    v_l  [B, H]       stream states, l = 1 … D−1; state 0 is the input x, state D the logits
    g    [P, B, H]    gradients of P scalars with respect to a state
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
ENTRIES_AT_ONCE = 1 << 22
"""Gradient entries of one state held at once; more probe vectors are pulled back in turns."""


class Linearization:
    """The states of one member over a batch, and what is needed to pull gradients back through it; float64."""

    def __init__(self, network: PackedNetwork, x: torch.Tensor) -> None:
        """Run a network of one member on inputs [B, inputs], normalizing with the moments of this batch."""
        assert network.member_count == 1
        self.network, self.x = network, x
        self.kernels = ProbeKernels(network.activation, network.normalization, x.device.type)
        self.normalized: list[torch.Tensor] = []
        self.slopes: list[torch.Tensor] = []
        self.activated: list[torch.Tensor] = []
        stream: list[torch.Tensor] = []
        with torch.no_grad():
            self.logits = network.forward(x, self._remember, stream)[0]
        self.stream = [state[0] for state in stream]

    def _remember(self, layer: int, v: torch.Tensor) -> torch.Tensor:
        n, slopes, activated = self.kernels.linearize(v[0])
        self.normalized.append(n)
        self.slopes.append(slopes)
        self.activated.append(activated)
        return n[None]

    @property
    def states(self) -> list[torch.Tensor]:
        """States 0 (input) … D (logits), [B, d_s] each."""
        return [self.x, *self.stream, self.logits]

    @torch.no_grad()
    def pull_back(self, cotangents: torch.Tensor, target: int) -> torch.Tensor:
        """Return ln of the norms of the gradients of Σ cotangent · F_target with respect to each state before it.

        Args:
            cotangents: [P, B, d_t].
            target: number of the state they belong to, 1 … D.

        Returns:
            [P, target], for states 0 … target − 1; −inf where nothing arrives.
        """
        chunk = max(1, ENTRIES_AT_ONCE // max(self.stream[0].numel(), cotangents[0].numel()))
        return torch.cat([self._pull_back(part, target) for part in cotangents.split(chunk)])

    def _pull_back(self, cotangents: torch.Tensor, target: int) -> torch.Tensor:
        input_weight, _, hidden_weight, _, output_weight, _ = (parameter[0] for parameter in self.network.parameters)
        skip = self.network.skip_scale.item()
        hidden_weight = hidden_weight * self.network.residual_scale.item()
        log_scale = torch.zeros(len(cotangents), dtype=cotangents.dtype, device=cotangents.device)
        log_norms = []

        rooms = [cotangents.new_empty(len(cotangents), *self.stream[0].shape) for _ in range(2)]  # written in turn

        def through(layer: int, weight: torch.Tensor, skip: float, g_above: torch.Tensor) -> torch.Tensor:
            """Return gradients with respect to v, scaled back to 1 where their norm nears the end of the range."""
            nonlocal log_scale
            g = rooms[layer % 2]
            multiply_members(g_above.flatten(0, 1)[None], weight.T[None], out=g.flatten(0, 1)[None])
            log_size = self.kernels.pull_through(g, self.slopes[layer], self.normalized[layer], skip, g_above)
            log_norms.append(log_size + log_scale)
            shift = torch.where(log_size.isfinite() & (log_size.abs() > SAFE_LOG_NORM), log_size, 0.0)
            if shift.any():
                g *= torch.exp(-shift)[:, None, None]
                log_scale = log_scale + shift
            return g

        g = cotangents.contiguous()
        if target == self.network.depth:
            g = through(target - 2, output_weight, 0.0, g)
            target -= 1
        for layer in range(target - 2, -1, -1):
            g = through(layer, hidden_weight[layer], skip, g)
        log_norms.append(self._log_norm_at_input(g, input_weight) + log_scale)
        return torch.stack(log_norms[::-1], dim=1)

    @staticmethod
    def _log_norm_at_input(g: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return ln ‖g Wᵀ‖ [P]; a wide input goes through WᵀW, which is smaller than the gradient."""
        inputs, width = weight.shape
        if inputs <= 4 * width:
            return torch.linalg.vector_norm((g @ weight.T).flatten(1), dim=1).log()
        square = ((g @ (weight.T @ weight)) * g).sum(dim=(1, 2))
        return 0.5 * square.clamp(min=0).log()
