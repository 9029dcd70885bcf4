"""A way to train, and how many trials → one process that trains them: `python -m benchmarks.contenders NAME …`.

Every contender does the same work for a trial: epochs of steps over all training images, and after each epoch the
error and loss on the training and the test split. Ours measures GSC as well. None writes anything.

    tutorial   torchvision transforms, image by image, in a DataLoader, and torch's default Adam: the loop of Ray's
               tutorial on CIFAR-10
    in-memory  the images as one tensor, fused Adam, fp32 products by oneDNN: what plain PyTorch can do for one trial
    graphed    the same with its steps in a CUDA graph (on a GPU)
    packed     this project, with trials in packs of a given size
"""

import argparse
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from benchmarks.graphed_loop import GraphedEpoch
from benchmarks.plain_network import PlainNetwork
from study.datasets import Dataset, load_dataset
from study.device_split import make_device_split
from study.image_sources import import_torchvision_datasets
from study.processor import prepare_processor
from study.train_loop import train_pack
from study.trial_config import TrialConfig

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
Splits = list[tuple[torch.Tensor, torch.Tensor]]
EpochTrainer = Callable[[torch.nn.Module, torch.optim.Optimizer, Batches, str], None]


def train_like_the_tutorial(trial: TrialConfig, dataset: Dataset) -> None:
    """Train one trial with a DataLoader over single images."""
    import_torchvision_datasets()
    from torchvision import transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)])
    train = _PillowImages(dataset.train_images, dataset.train_labels, transform)
    test = _PillowImages(dataset.test_images, dataset.test_labels, transform)
    loader = torch.utils.data.DataLoader(train, batch_size=trial.batch_size, shuffle=True, drop_last=True)
    splits = [torch.utils.data.DataLoader(split, batch_size=1000) for split in (train, test)]
    network = PlainNetwork(trial)
    optimizer = torch.optim.Adam(network.parameters(), lr=trial.learning_rate)
    for _ in range(trial.epochs):
        _train_epoch(network, optimizer, loader, trial.precision)
        for split in splits:
            _evaluate(network, split, trial.precision)


class _PillowImages(torch.utils.data.Dataset):
    """What torchvision.datasets.CIFAR10 does with its arrays: a PIL image per item, transformed when asked for."""

    def __init__(self, images, labels, transform) -> None:  # type: ignore[no-untyped-def]
        self.images = images.reshape(len(images), 3, 32, 32).transpose(0, 2, 3, 1)
        self.labels, self.transform = labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[row])).flatten(), int(self.labels[row])


def standardise(dataset: Dataset, device: str) -> Splits:
    """Return the standardised images [N, 3072] and labels [N] of the training and the test split."""
    splits = [make_device_split(dataset, name, 0, device) for name in ("train", "test")]
    return [(split.standardised(slice(None)), split.labels) for split in splits]


def train_in_memory(
    trial: TrialConfig, splits: Splits, device: str, train_epoch: EpochTrainer | None = None
) -> list[float]:
    """Train one trial on images that lie in memory; return its final errors on both splits."""
    train_epoch = train_epoch or _train_epoch
    images, labels = splits[0]
    network = PlainNetwork(trial).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=trial.learning_rate, fused=True, capturable=device == "cuda")
    errors = []
    for _ in range(trial.epochs):
        order = torch.randperm(len(labels), device=device).split(trial.batch_size)
        full = [rows for rows in order if len(rows) == trial.batch_size]
        train_epoch(network, optimizer, ((images[rows], labels[rows]) for rows in full), trial.precision)
        errors = [
            _evaluate(network, zip(x.split(1000), y.split(1000), strict=True), trial.precision)[0] for x, y in splits
        ]
    return errors


def _autocast(precision: str, device: str) -> contextlib.AbstractContextManager:
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def _train_epoch(network: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, precision: str) -> None:
    network.train()
    for x, y in batches:
        optimizer.zero_grad()
        with _autocast(precision, x.device.type):
            loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _evaluate(network: torch.nn.Module, batches: Batches, precision: str) -> tuple[float, float]:
    network.eval()
    wrong, total, count = 0.0, 0.0, 0
    for x, y in batches:
        with _autocast(precision, x.device.type):
            logits = network(x).float()
        wrong += (logits.argmax(1) != y).sum().item()
        total += torch.nn.functional.cross_entropy(logits, y, reduction="sum").item()
        count += len(y)
    return wrong / count, total / count


def train_packed(trials: list[TrialConfig], dataset: Dataset, pack_size: int, device: str) -> None:
    """Train all trials in packs of at most `pack_size`."""
    for start in range(0, len(trials), pack_size):
        for _ in train_pack(trials[start : start + pack_size], dataset, device):
            pass


def main() -> None:
    """Train trials that differ in their seeds; print the seconds it took once everything was loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=("tutorial", "in-memory", "graphed", "packed"))
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pack", type=int, default=1)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", default="synthetic:50000")
    options = parser.parse_args()
    if options.contender == "tutorial":
        torch.set_num_threads(1)
    else:
        prepare_processor()
    dataset = load_dataset(options.data, Path("data"))
    trials = [
        TrialConfig(
            depth=options.depth, normalization="batch", epochs=options.epochs, precision=options.precision, seed=seed
        )
        for seed in itertools.islice(itertools.count(options.first_seed), options.trials)
    ]
    splits = standardise(dataset, options.device) if options.contender in ("in-memory", "graphed") else []
    started = time.perf_counter()
    if options.contender == "packed":
        train_packed(trials, dataset, options.pack, options.device)
    for trial in trials if options.contender != "packed" else ():
        if options.contender == "tutorial":
            train_like_the_tutorial(trial, dataset)
        else:
            epoch = GraphedEpoch() if options.contender == "graphed" else None
            train_in_memory(trial, splits, options.device, epoch)
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
