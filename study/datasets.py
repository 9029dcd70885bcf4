"""Data specification (`cifar10`, `images:DIR`, `synthetic[:N]`, `auto`) → uint8 images and labels in memory.

The decoded images are cached on disk with a checksum; a damaged or outdated cache is made again. Needs numpy
alone: `study.image_sources` imports torchvision when a source needs it.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from study import image_sources
from study import run_log_schema as schema
from study.image_sources import DecodedSplits

ORDER_SEED = 0
"""Subsets are the same in every trial, so that trials differ in what is studied and in nothing else."""

CACHE_FORMAT = "stratified order, version 3"
"""Part of a cache's name: change it with the order or content of what is cached."""

CACHED_TYPES = (np.uint8, np.int64) * 2
"""Of images and labels, of both splits."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images in memory; a split is a pair of uint8 images [N, 3072] (channels first) and int64 labels [N].

    The first n rows of a split are a random subset that is stratified (each class has its share), for every n, so a
    subset is a view.
    `mean` and `std` are per channel, of the full training split, in units of 1 = white. `checksum` is 16 hexadecimal
    digits over everything above, the same on every machine.
    """

    source: str
    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str

    @property
    def chance_error(self) -> float:
        """Error of always guessing the most frequent training class: 0.9 with ten equally frequent ones."""
        return float(1 - np.bincount(self.train_labels).max() / len(self.train_labels))


def describe_data(dataset: Dataset) -> dict[str, str]:
    """Return the tags that say which images a number was measured on."""
    return {
        schema.TAG_DATA: dataset.source,
        schema.TAG_DATA_CHECKSUM: dataset.checksum,
        schema.TAG_CHANCE_ERROR: f"{dataset.chance_error:g}",
    }


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """Return a seeded order of all rows in which every beginning holds each class in its share of the whole."""
    shuffled = np.random.default_rng(ORDER_SEED).permutation(len(labels))
    # Where each image lies within its class, from 0 to 1: taking the lowest places first takes the classes in step.
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((labels, place))


def check_sizes(dataset: Dataset, train_size: int, test_size: int, batch_size: int, probe_size: int) -> None:
    """Raise ValueError when a trial asks for more images than there are, or for batches larger than its data."""
    for name, size, available in (
        ("train_size", train_size, len(dataset.train_labels)),
        ("test_size", test_size, len(dataset.test_labels)),
    ):
        if size > available:
            raise ValueError(
                f"{name}: {size} is more than the {available} images of {dataset.source}; give at most that"
            )
    used = train_size or len(dataset.train_labels)
    for name, size in (("batch_size", batch_size), ("probe_size", probe_size)):
        if size > used:
            raise ValueError(f"{name}: {size} is more than the {used} training images in use; give at most that")


def load_dataset(specification: str, data_folder: Path) -> Dataset:
    """Load a data set, from the cache if it is there and whole.

    Args:
        specification: `cifar10`, `images:DIR`, `synthetic` or `synthetic:N`; `resolve_auto` turns `auto` into one.
        data_folder: where downloads and caches lie; made when missing.

    Raises:
        ValueError: the specification is unknown, or its images are missing, empty or broken.
    """
    fingerprint = f"{CACHE_FORMAT}: {image_sources.fingerprint(specification)}"
    cache = data_folder / "cache" / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.arrays"
    with locked(cache):
        cached = _read_cache(cache)
        if cached is None:
            splits = _in_stratified_order(image_sources.decode(specification, data_folder))
            cached = splits, _checksum(splits), _count_brightness(splits.train_images)
            _write_cache(cache, *cached)
    return _describe(specification, *cached)


def resolve_auto(data_folder: Path) -> tuple[str, str]:
    """Choose the data of a demonstration: CIFAR-10 when at hand or quick to fetch, else synthetic images.

    Returns the specification and a sentence for the user that says what was chosen and why.
    """
    if image_sources.cifar10_is_on_disk(data_folder):
        return "cifar10", "Data: CIFAR-10, found on disk."
    tree = data_folder / "cifar10"
    if image_sources.is_cifar10_tree(tree):
        return f"images:{tree}", f"Data: CIFAR-10 as image files, found in {tree}."
    with locked(data_folder / "cifar10-download"):
        if image_sources.cifar10_is_on_disk(data_folder):  # fetched by another process meanwhile
            return "cifar10", "Data: CIFAR-10, found on disk."
        problem = image_sources.fetch_cifar10_quickly(data_folder)
    if problem is None:
        return "cifar10", "Data: CIFAR-10, downloaded just now."
    return "synthetic", (
        f"DATA: SYNTHETIC IMAGES, NOT CIFAR-10 ({problem}). Errors below say nothing about CIFAR-10. "
        f"To study it, put cifar-10-python.tar.gz into {data_folder} and run with another --name."
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file beside `path`, so that of many processes on a machine one does the work and the rest wait."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        lock.acquire()
    except OSError as error:
        raise ValueError(f"data folder: cannot write to {path.parent} ({error.strerror}); choose another one") from None
    try:
        yield
    finally:
        lock.release()


def _count_brightness(images: np.ndarray) -> np.ndarray:
    """Return how often each value of a byte occurs in each channel, [3, 256]: exact moments without a float copy."""
    channels = images.reshape(len(images), 3, -1)
    return np.stack([np.bincount(channels[:, channel].reshape(-1), minlength=256) for channel in range(3)])


def _describe(source: str, splits: DecodedSplits, checksum: str, counts: np.ndarray) -> Dataset:
    share = counts / counts.sum(axis=1, keepdims=True)
    brightness = np.arange(256) / 255
    mean = share @ brightness
    std = np.sqrt((share * (brightness - mean[:, None]) ** 2).sum(axis=1))
    if (std == 0).any():
        raise ValueError(f"data: every training image of {source} has one colour; give images that differ")
    return Dataset(
        source=source,
        classes=splits.classes,
        train_images=splits.train_images,
        train_labels=splits.train_labels,
        test_images=splits.test_images,
        test_labels=splits.test_labels,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        checksum=checksum[:16],
    )


def _in_stratified_order(splits: DecodedSplits) -> DecodedSplits:
    train, test = stratified_order(splits.train_labels), stratified_order(splits.test_labels)
    return DecodedSplits(
        classes=splits.classes,
        train_images=splits.train_images[train],
        train_labels=splits.train_labels[train],
        test_images=splits.test_images[test],
        test_labels=splits.test_labels[test],
    )


def _checksum(splits: DecodedSplits) -> str:
    digest = hashlib.sha256(json.dumps(splits.classes).encode())
    for array in (splits.train_images, splits.train_labels, splits.test_images, splits.test_labels):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read_cache(path: Path) -> tuple[DecodedSplits, str, np.ndarray] | None:
    """Return cached images, their checksum and brightnesses, or None when there are none or their checksum fails."""
    try:
        with path.open("rb") as file:
            classes, *images_and_labels, checksums, counts = [np.load(file, allow_pickle=False) for _ in range(7)]
        splits = DecodedSplits(tuple(classes.tolist()), *images_and_labels)
        checksum, seal = map(str, checksums)
        have_types = all(array.dtype == dtype for array, dtype in zip(images_and_labels, CACHED_TYPES, strict=True))
        is_whole = have_types and _checksum(splits) == checksum and _seal(checksum, counts) == seal
        return (splits, checksum, counts) if is_whole else None
    except Exception:  # a damaged file makes numpy raise nearly anything
        return None


def _seal(checksum: str, counts: np.ndarray) -> str:
    described = f"{checksum} {counts.dtype} {counts.shape}".encode()
    return hashlib.sha256(described + counts.tobytes()).hexdigest()


def _write_cache(path: Path, splits: DecodedSplits, checksum: str, counts: np.ndarray) -> None:
    """Write beside the target, then rename: a reader sees the whole file or none. Called with the lock held.

    The arrays follow each other, so that each is read in one piece: the many pieces in which numpy reads its archives
    would each wait for a thread that imports meanwhile.
    """
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            for array in (
                np.array(splits.classes),
                *(splits.train_images, splits.train_labels, splits.test_images, splits.test_labels),
                np.array([checksum, _seal(checksum, counts)]),
                counts,
            ):
                np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ValueError(f"data folder: cannot write {path} ({error.strerror or error}); choose another one") from None
