"""Images in memory → one split on the training device, standardised as it is read."""

import dataclasses
import warnings

import torch

from study.datasets import Dataset


@dataclasses.dataclass(frozen=True)
class DeviceSplit:
    """One split on the training device: uint8 images [N, 3072] and labels [N], standardised on the fly."""

    images: torch.Tensor
    labels: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def standardised(self, rows: torch.Tensor | slice, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return [..., 3072] images of the rows, each channel with mean 0 and variance 1 over the training split."""
        factor, shift = self.by_pixel(dtype)
        return self.images[rows].to(dtype).mul_(factor).add_(shift)

    def by_pixel(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what each byte of an image is multiplied by, and what is added then, [3072] each."""
        repeats = self.images.shape[1] // len(self.scale)
        return self.scale.to(dtype).repeat_interleave(repeats), self.shift.to(dtype).repeat_interleave(repeats)


def make_device_split(dataset: Dataset, split: str, size: int, device: torch.device | str) -> DeviceSplit:
    """Put the first `size` images (0: all) of a split, "train" or "test", on a device; on the CPU nothing is copied."""
    images, labels = (
        (dataset.train_images, dataset.train_labels) if split == "train" else (dataset.test_images, dataset.test_labels)
    )
    used = slice(0, size or len(labels))
    mean, std = torch.tensor(dataset.mean, dtype=torch.float64), torch.tensor(dataset.std, dtype=torch.float64)
    with warnings.catch_warnings():
        # Arrays shared between processes are read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return DeviceSplit(
            images=torch.from_numpy(images[used]).to(device),
            labels=torch.from_numpy(labels[used]).to(device),
            scale=(1 / (255 * std)).to(device),
            shift=(-mean / std).to(device),
        )
