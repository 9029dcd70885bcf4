"""A batch of rows for every member → one step of training, written down once and repeated.

On a GPU it is one CUDA graph; with the compiled library the gradients are a list of calls, and so is their application
unless gradients are clipped or scaled.
"""

import warnings

import torch

from study.backpropagation import Backpropagation
from study.device_split import DeviceSplit
from study.kernels import BlockKernels
from study.native_calls import written_down
from study.network import PackedNetwork
from study.optimizers import PackedOptimizer, gradient_norm

STEPS_BEFORE_CAPTURE = 3
"""Steps that run as they are, so that everything that happens only once has happened."""


class TrainingStep:
    """Gathers images, computes gradients and updates parameters, in tensors that stay where they are."""

    def __init__(
        self,
        network: PackedNetwork,
        optimizer: PackedOptimizer,
        train: DeviceSplit,
        kernels: BlockKernels,
        batch_size: int,
        precision: str,
    ) -> None:
        self.optimizer, self.train, self.kernels = optimizer, train, kernels
        self.gradients = Backpropagation(network, kernels, batch_size, precision)
        device = train.images.device
        self.rows = torch.zeros(network.member_count, batch_size, dtype=torch.int64, device=device)
        self.labels = torch.zeros_like(self.rows)
        self.factor, self.shift = train.by_pixel(network.stacked[0].dtype)
        self.steps_until_capture = STEPS_BEFORE_CAPTURE if device.type == "cuda" else -1
        self.graph: torch.cuda.CUDAGraph | None = None
        self.finding = written_down(self._find_gradients) if self.gradients.is_native else None
        self.applying = written_down(self._apply_gradients) if self.finding and optimizer.is_native else None

    @torch.no_grad()
    def run(self, rows: torch.Tensor) -> None:
        """Take one step on the training images `rows` [E, B]; the host waits for nothing."""
        self.rows.copy_(rows)
        self.optimizer.prepare_step()
        if self.steps_until_capture == 0:
            self.graph = self._capture()
        self.steps_until_capture -= 1
        if self.graph is None:
            self._compute()
        else:
            self.graph.replay()

    def _capture(self) -> torch.cuda.CUDAGraph | None:
        """Record a step, which computes nothing; return None, with a warning, where it cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._compute()
        except torch.OutOfMemoryError:
            raise  # a smaller pack may do
        except RuntimeError as error:
            torch.cuda.synchronize()  # raises where the device no longer works
            first_line = str(error).strip().partition("\n")[0]
            warnings.warn(f"steps are not captured in a CUDA graph and run slower ({first_line})", stacklevel=2)
            return None
        return graph

    def _compute(self) -> None:
        torch.take(self.train.labels, self.rows, out=self.labels)
        (self.finding.make if self.finding else self._find_gradients)()
        (self.applying.make if self.applying else self._apply_gradients)()

    def _find_gradients(self) -> None:
        self.gradients.run(self._take_images, self.labels)

    def _take_images(self, some: slice, x: torch.Tensor) -> None:
        self.kernels.take_images(self.train.images, self.rows[some], self.factor, self.shift, x)

    def _apply_gradients(self) -> None:
        self.optimizer.apply(self.gradients.gradients, self.gradients.short_weights)

    def gradient_norm(self) -> torch.Tensor:
        """Return the norm of each member's gradient at the last step, before clipping, [E]."""
        return gradient_norm(self.gradients.gradients)
