"""One trial in plain PyTorch whose steps are replayed as a CUDA graph: the best a solo loop can do on a GPU."""

import torch


class GraphedEpoch:
    """Trains epochs with one captured step; the optimizer must be `capturable`."""

    WARM_UP = 3

    def __init__(self) -> None:
        self.graph: torch.cuda.CUDAGraph | None = None
        self.steps = 0

    def __call__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: object,
        precision: str,
    ) -> None:
        """Take a step per batch."""
        network.train()
        for x, y in batches:  # type: ignore[attr-defined]
            if self.steps == 0:
                self.x, self.y = x.clone(), y.clone()
            self.x.copy_(x)
            self.y.copy_(y)
            if self.steps == self.WARM_UP:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph):
                    self._step(network, optimizer, precision)
            if self.graph is None:
                self._step(network, optimizer, precision)
            else:
                self.graph.replay()
            self.steps += 1

    def _step(self, network: torch.nn.Module, optimizer: torch.optim.Optimizer, precision: str) -> None:
        optimizer.zero_grad(set_to_none=True)  # so that replays write gradients instead of adding to them
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.cross_entropy(network(self.x), self.y)
        loss.backward()
        optimizer.step()
