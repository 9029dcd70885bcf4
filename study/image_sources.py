"""Data specification → decoded uint8 images: CIFAR-10, a folder tree of images, or synthetic ones.

Each source has a fingerprint that is cheap to take and changes when its images do, so that decoded images can be
cached under it. torchvision is imported only where it is used.
"""

import dataclasses
import hashlib
import http.client
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from study.one_line_errors import find_nearest

SIDE = 32
PIXELS = 3 * SIDE * SIDE
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SYNTHETIC_MODES = 20
NOISE_SHARE = 0.95
"""Share of noise in the variance of synthetic images: about as hard to tell apart for these networks as CIFAR-10."""
FETCH_SECONDS = 20.0
CONNECT_SECONDS = 4.0


@dataclasses.dataclass(frozen=True)
class DecodedSplits:
    """Class names, and per split uint8 images [N, 3072] (channels first) with int64 labels [N]."""

    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def fingerprint(specification: str) -> str:
    """Return a text that changes when the source's images do. Raises ValueError for an unusable specification."""
    if specification == "cifar10":
        return "cifar10"
    if specification.startswith("images:"):
        return "images " + _tree_fingerprint(_existing_tree(specification))
    if _is_synthetic(specification):
        return f"synthetic version 2, {synthetic_train_size(specification)} images"
    raise ValueError(
        f"data: {specification!r} is unknown; {_guess(specification)}choose cifar10, images:DIR (train/<class>/* and "
        "test/<class>/* below DIR), synthetic or synthetic:N (N training images)"
    )


def _guess(specification: str) -> str:
    """Return what was probably meant by an unknown specification, as a question; empty where nothing is near."""
    source, colon, rest = specification.partition(":")
    near = find_nearest(source, ("cifar10", "images", "synthetic"))
    if os.path.isdir(specification):  # noqa: PTH112 -- unlike Path's, it says no to a name that is too long
        near = f"images:{specification}"
    elif near == "images":
        near += f":{rest or 'DIR'}"
    elif near == "synthetic" and rest:
        near += colon + rest
    return f"did you mean {near!r}? " if near else ""


def decode(specification: str, data_folder: Path) -> DecodedSplits:
    """Read and decode all images of a source. Raises ValueError when some are missing or broken."""
    if specification == "cifar10":
        return _decode_cifar10(data_folder)
    if specification.startswith("images:"):
        return _decode_tree(_existing_tree(specification))
    return make_synthetic(synthetic_train_size(specification))


# CIFAR-10


def cifar10_is_on_disk(data_folder: Path) -> bool:
    """Say whether torchvision's CIFAR-10, or its archive, is in the data folder, whole."""
    cifar10 = import_torchvision_datasets().CIFAR10
    if _has_checksum(data_folder / cifar10.filename, cifar10.tgz_md5):
        return True
    batches = [*cifar10.train_list, *cifar10.test_list]
    return all(_has_checksum(data_folder / cifar10.base_folder / name, md5) for name, md5 in batches)


def _has_checksum(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == md5


def is_cifar10_tree(tree: Path) -> bool:
    """Say whether a folder holds CIFAR-10 as image files: train/<class>/ and test/<class>/ for its ten classes."""
    return all((tree / split / name).is_dir() for split in ("train", "test") for name in CIFAR10_CLASSES)


def fetch_cifar10_quickly(data_folder: Path) -> str | None:
    """Download the archive if that takes no more than seconds; return what was in the way, or None on success."""
    cifar10 = import_torchvision_datasets().CIFAR10
    data_folder.mkdir(parents=True, exist_ok=True)
    target, part = data_folder / cifar10.filename, data_folder / (cifar10.filename + ".part")
    deadline = time.monotonic() + FETCH_SECONDS
    try:
        with urllib.request.urlopen(cifar10.url, timeout=CONNECT_SECONDS) as answer, part.open("wb") as file:
            while chunk := answer.read1(1 << 20):  # what has come, so that a slow answer cannot outlast the deadline
                file.write(chunk)
                if time.monotonic() > deadline:
                    return f"the download would take longer than {FETCH_SECONDS:.0f} s"
        if not _has_checksum(part, cifar10.tgz_md5):
            return "the download is damaged"
        part.replace(target)
    except (OSError, http.client.HTTPException) as error:
        return f"{cifar10.url} cannot be reached: {getattr(error, 'reason', None) or _one_line(error)}"
    finally:
        part.unlink(missing_ok=True)
    return None


def _decode_cifar10(data_folder: Path) -> DecodedSplits:
    cifar10 = import_torchvision_datasets().CIFAR10
    try:
        train = cifar10(data_folder, train=True, download=True)
        test = cifar10(data_folder, train=False, download=True)
    except (OSError, RuntimeError) as error:
        tree = data_folder / "cifar10"
        remedy = f"put {cifar10.filename} there, or use --data images:DIR or --data synthetic"
        if is_cifar10_tree(tree):
            remedy = f"use --data images:{tree}"
        raise ValueError(
            f"data: CIFAR-10's archive is not in {data_folder} and cannot be downloaded ({_one_line(error)}); {remedy}"
        ) from None
    return DecodedSplits(
        classes=tuple(train.classes),
        train_images=_channels_first(train.data),
        train_labels=np.asarray(train.targets, dtype=np.int64),
        test_images=_channels_first(test.data),
        test_labels=np.asarray(test.targets, dtype=np.int64),
    )


# A folder tree of images


def _existing_tree(specification: str) -> Path:
    """Return the tree of `images:DIR`; raises ValueError when the tree or one of its splits is missing."""
    tree = Path(specification.removeprefix("images:")).expanduser()
    for folder in (tree, tree / "train", tree / "test"):
        if not os.path.isdir(folder):  # noqa: PTH112 -- unlike Path's, it says no to a name that is too long
            raise ValueError(
                f"data: folder {folder} does not exist; images:DIR needs DIR/train/<class>/ and DIR/test/<class>/"
            )
    return tree.resolve()


def _tree_fingerprint(tree: Path) -> str:
    """Hash names, sizes and modification times of all files below a folder, behind links, too."""
    digest = hashlib.sha256(str(tree).encode())
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(tree, followlinks=True):
        if os.path.realpath(folder) in visited:  # a link to a folder above
            subfolders.clear()
        visited.add(os.path.realpath(folder))
        subfolders.sort()
        for file in sorted(files):
            path = f"{folder}/{file}"
            try:
                status = os.stat(path)  # noqa: PTH116 -- 60,000 Paths take three times as long
            except OSError:
                status = os.lstat(path)  # decoding will name a link that leads nowhere
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _decode_tree(tree: Path) -> DecodedSplits:
    train_classes, train_images, train_labels = _decode_split(tree / "train")
    test_classes, test_images, test_labels = _decode_split(tree / "test")
    if train_classes != test_classes:
        odd = sorted(set(train_classes) ^ set(test_classes))[0]
        raise ValueError(f"data: class {odd!r} is not in both {tree}/train and {tree}/test; give both the same classes")
    if len(train_classes) < 2:
        raise ValueError(f"data: {tree}/train holds one class alone, {train_classes[0]!r}; give at least 2")
    return DecodedSplits(train_classes, train_images, train_labels, test_images, test_labels)


def _decode_split(folder: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Decode every image below folder/<class>/ as 32×32 RGB (other sizes are resized)."""
    try:
        found = import_torchvision_datasets().ImageFolder(str(folder))
    except (FileNotFoundError, OSError) as error:
        raise ValueError(
            f"data: {folder} is unusable ({_one_line(error)}); put images into {folder}/<class>/"
        ) from None
    images = np.empty((len(found.samples), PIXELS), dtype=np.uint8)
    for row, (path, _) in enumerate(found.samples):
        try:
            image = found.loader(path)
            image = image if image.size == (SIDE, SIDE) else image.resize((SIDE, SIDE))
        except Exception as error:  # every format's decoder raises its own
            raise ValueError(f"data: image {path} is broken ({_one_line(error)}); replace or remove it") from None
        images[row] = np.asarray(image).transpose(2, 0, 1).reshape(-1)
    return tuple(found.classes), images, np.asarray(found.targets, dtype=np.int64)


# Synthetic images


def _is_synthetic(specification: str) -> bool:
    return specification.partition(":")[0] == "synthetic"


def synthetic_train_size(specification: str) -> int:
    """Return N of `synthetic:N`, 50,000 for `synthetic`; raises ValueError when N is no number of at least 50."""
    _, _, size = specification.partition(":")
    if not size and ":" not in specification:
        return 50_000
    if not (size.isascii() and size.isdecimal()) or len(size) > 7 or not 50 <= int(size) <= 1_000_000:
        raise ValueError(
            f"data: {specification!r} needs a whole number of training images, at least 50 and at most 1000000, "
            "as in synthetic:5000"
        )
    return int(size)


def make_synthetic(train_size: int, seed: int = 0) -> DecodedSplits:
    """Make ten learnable classes of images with the spectrum of natural ones (amplitude ∝ 1/frequency).

    Each class is a mixture of SYNTHETIC_MODES prototypes: an image is a prototype of its class plus a noise image.
    There are a fifth as many test images as training images.
    """
    generator = np.random.default_rng(seed)
    prototypes = _natural_images(generator, 10 * SYNTHETIC_MODES).reshape(10, SYNTHETIC_MODES, 3, SIDE, SIDE)

    def make_split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.permutation(np.arange(count) % 10)
        images = np.empty((count, PIXELS), dtype=np.uint8)
        for start in range(0, count, 5000):
            chosen = labels[start : start + 5000]
            signal = prototypes[chosen, generator.integers(SYNTHETIC_MODES, size=len(chosen))]
            noise = _natural_images(generator, len(chosen))
            mixed = np.sqrt(1 - NOISE_SHARE) * signal + np.sqrt(NOISE_SHARE) * noise
            images[start : start + 5000] = np.clip(127.5 + 55 * mixed, 0, 255).astype(np.uint8).reshape(-1, PIXELS)
        return images, labels.astype(np.int64)

    train_images, train_labels = make_split(train_size)
    test_images, test_labels = make_split(train_size // 5)
    return DecodedSplits(
        tuple(f"pattern {digit}" for digit in range(10)), train_images, train_labels, test_images, test_labels
    )


def _natural_images(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return Gaussian images [count, 3, 32, 32], mean 0, unit variance, amplitude spectrum 1/frequency."""
    vertical, horizontal = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    frequency = np.hypot(vertical, horizontal)
    amplitude = np.where(frequency > 0, 1 / np.where(frequency > 0, frequency, 1), 0)
    white = generator.standard_normal((count, 4, SIDE, SIDE), dtype=np.float32)
    # Natural colour channels are alike: each is 0.8 of a common one and 0.6 of its own.
    white = 0.8 * white[:, :1] + 0.6 * white[:, 1:]
    images = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(SIDE, SIDE))
    return images / images.std()


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Turn [N, 32, 32, 3] into [N, 3072]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def import_torchvision_datasets() -> Any:
    """Import `torchvision.datasets`, also beside a CPU-only torch.

    PyPI's torchvision is built against CUDA builds of torch; beside another build its compiled operators do not load
    and the import fails over two operator schemas. The data sets need neither, so declaring the schemas is enough.
    """
    try:
        import torchvision.datasets
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import importlib

        import torch

        _declared_schemas.append(library := torch.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torchvision = importlib.import_module("torchvision")
        importlib.import_module("torchvision.datasets")
    return torchvision.datasets


_declared_schemas: list[Any] = []
"""Keeps the declared schemas alive: they vanish with the library object."""
