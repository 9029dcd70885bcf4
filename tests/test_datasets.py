"""Sources, cache and subsets of images; the real download code on a small archive from a local server."""

import dataclasses
import errno
import functools
import hashlib
import http.server
import io
import multiprocessing
import pickle
import re
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from study import datasets, image_sources
from study.datasets import check_sizes, load_dataset, resolve_auto, stratified_order
from study.device_split import make_device_split


def write_tree(root, classes=("cat", "dog"), per_class=3, size=(32, 32)):
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(per_class):
                pixels = np.full((size[1], size[0], 3), 20 * number + 10 * index, dtype=np.uint8)
                pixels[0, 0] = (255, 0, 7)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


def test_image_tree_is_read_as_it_is(tmp_path):
    dataset = load_dataset(f"images:{write_tree(tmp_path / 'tree')}", tmp_path / "data")
    assert dataset.classes == ("cat", "dog")
    assert dataset.train_images.shape == (6, 3072)
    assert dataset.chance_error == 0.5
    row = dataset.train_images[list(dataset.train_labels).index(1)].reshape(3, 32, 32)
    assert tuple(row[:, 0, 0]) == (255, 0, 7)
    assert row[0, 1, 1] in (20, 30, 40)


def test_other_sizes_and_modes_become_32_by_32_rgb(tmp_path):
    tree = write_tree(tmp_path / "tree", size=(50, 20))
    Image.new("L", (7, 7), 99).save(tree / "train" / "cat" / "0.png")
    assert load_dataset(f"images:{tree}", tmp_path / "data").train_images.shape == (6, 3072)


def test_standardised_images_have_mean_0_and_variance_1(small_dataset):
    split = make_device_split(small_dataset, "train", 0, "cpu")
    x = split.standardised(slice(0, None), torch.float64).view(-1, 3, 1024)
    torch.testing.assert_close(x.mean(dim=(0, 2)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(x.var(dim=(0, 2), correction=0), torch.ones(3, dtype=torch.float64))
    assert split.images.dtype == torch.uint8


def test_a_split_is_a_view_of_shared_read_only_memory(small_dataset):
    small_dataset.train_images.flags.writeable = False
    split = make_device_split(small_dataset, "train", 100, "cpu")
    assert split.images.data_ptr() == small_dataset.train_images.ctypes.data
    assert len(split) == 100


@pytest.mark.parametrize("counts", [[100] * 7, [700, 200, 99, 1]])
def test_beginnings_are_stratified_and_seeded(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    order = stratified_order(labels)
    assert sorted(order) == list(range(len(labels)))
    for size in (len(labels) // 2, 353, 10):
        expected = size * np.array(counts) / len(labels)
        assert np.abs(np.bincount(labels[order[:size]], minlength=len(counts)) - expected).max() <= 1
    assert (order == stratified_order(labels)).all()
    first_class = order[labels[order] == 0]
    assert (np.diff(first_class) < 0).any()  # shuffled within the class


def test_the_error_of_a_guess_with_unequal_classes(small_dataset):
    labels = np.array([0, 0, 0, 1])
    assert small_dataset.chance_error == pytest.approx(0.9)
    assert dataclasses.replace(small_dataset, train_labels=labels).chance_error == 0.25


def test_the_cache_is_used_and_a_damaged_one_made_again(tmp_path, monkeypatch):
    decoded = []
    original = image_sources.decode
    monkeypatch.setattr(image_sources, "decode", lambda *a: decoded.append(1) or original(*a))
    first = load_dataset("synthetic:100", tmp_path)
    assert load_dataset("synthetic:100", tmp_path).checksum == first.checksum
    assert len(decoded) == 1
    (cache,) = (tmp_path / "cache").glob("*.arrays")
    content = cache.read_bytes()
    for damage in (content[:-100], content[: len(content) // 2], b"", content[:5000] + b"\xff\x00" + content[5002:]):
        cache.write_bytes(damage)
        assert load_dataset("synthetic:100", tmp_path).checksum == first.checksum
    assert len(decoded) == 5
    assert [path.name for path in (tmp_path / "cache").glob("*.part")] == []


def test_a_cache_damaged_in_any_part_is_refused(tmp_path):
    whole = load_dataset("synthetic:50", tmp_path).checksum
    (cache,) = (tmp_path / "cache").glob("*.arrays")
    content = cache.read_bytes()
    counts = datasets._read_cache(cache)[2]
    begins = [part.start() for part in re.finditer(re.escape(np.lib.format.MAGIC_PREFIX), content)]
    assert len(begins) == 7
    for part in re.finditer(b"<i8", content):  # the same bytes, read as other labels or brightnesses
        cache.write_bytes(content[: part.start()] + b">" + content[part.start() + 1 :])
        assert datasets._read_cache(cache) is None
    places = [begin + offset for begin in begins for offset in range(0, 150, 3)]
    for place in places:
        cache.write_bytes(content[:place])
        assert datasets._read_cache(cache) is None
        for flip in (1, 255):
            cache.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
            read = datasets._read_cache(cache)
            assert read is None or (read[1][:16] == whole and (read[2] == counts).all())


def test_a_changed_tree_is_read_again(tmp_path):
    tree = write_tree(tmp_path / "tree")
    before = load_dataset(f"images:{tree}", tmp_path / "data").checksum
    Image.new("RGB", (32, 32), (1, 2, 3)).save(tree / "train" / "cat" / "9.png")
    assert load_dataset(f"images:{tree}", tmp_path / "data").checksum != before


def test_a_change_behind_a_link_is_seen(tmp_path):
    real = write_tree(tmp_path / "real")
    (tmp_path / "tree").mkdir()
    for split in ("train", "test"):
        (tmp_path / "tree" / split).symlink_to(real / split)
    (real / "train" / "dog" / "loop").symlink_to(real)
    before = load_dataset(f"images:{tmp_path / 'tree'}", tmp_path / "data").checksum
    Image.new("RGB", (32, 32), (1, 2, 3)).save(real / "train" / "cat" / "9.png")
    assert load_dataset(f"images:{tmp_path / 'tree'}", tmp_path / "data").checksum != before


def test_an_unwritable_cache_is_a_one_line_error(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ValueError, match=r"data folder: cannot write .* \(No space left on device\)"):
        load_dataset("synthetic:100", tmp_path)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_full_disk_is_a_one_line_error(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from study.datasets import load_dataset
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    load_dataset("synthetic:100", Path(sys.argv[1]))
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert re.fullmatch(r"data folder: cannot write .*\.arrays \(.*written\); choose another one\n", done.stdout)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_the_checksum_does_not_depend_on_the_folder(tmp_path):
    one = load_dataset(f"images:{write_tree(tmp_path / 'a')}", tmp_path / "data")
    two = load_dataset(f"images:{write_tree(tmp_path / 'b')}", tmp_path / "data")
    assert one.checksum == two.checksum


def remove(path):
    path.unlink() if path.is_file() else [child.unlink() for child in path.iterdir()]


@pytest.mark.parametrize(
    ("break_tree", "message"),
    [
        (lambda tree: tree.rename(tree.parent / "moved"), "tree does not exist; images:DIR needs"),
        (lambda tree: (tree / "test").rename(tree / "validation"), "test does not exist; images:DIR needs"),
        (lambda tree: remove(tree / "train" / "cat"), "train is unusable .*for the classes cat.*put images into"),
        (lambda tree: (tree / "train/dog/1.png").write_bytes(b"no image"), "dog/1.png is broken .*replace or remove"),
        (
            lambda tree: (tree / "test" / "cat" / "2.png").write_bytes((tree / "test/cat/2.png").read_bytes()[:60]),
            "cat/2.png is broken",
        ),
        (lambda tree: (tree / "train" / "dog").rename(tree / "train" / "wolf"), "class 'dog' is not in both"),
        (lambda tree: (tree / "train" / "dog" / "9.png").symlink_to("nowhere"), "dog/9.png is broken"),
    ],
)  # fmt: skip
def test_unusable_trees_are_one_line_errors(tmp_path, break_tree, message):
    tree = write_tree(tmp_path / "tree")
    break_tree(tree)
    with pytest.raises(ValueError, match=f"data: .*{message}") as caught:
        load_dataset(f"images:{tree}", tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("cifar11", "'cifar11' is unknown; did you mean 'cifar10'\\? choose cifar10, images:DIR"),
        ("CIFAR-10", "did you mean 'cifar10'\\?"),
        ("image:a/b:c", "did you mean 'images:a/b:c'\\?"),
        ("images", "did you mean 'images:DIR'\\?"),
        (".", "did you mean 'images:.'\\?"),  # a folder alone
        ("synthetc:100", "did you mean 'synthetic:100'\\?"),
        ("nothing-like-it", "'nothing-like-it' is unknown; choose cifar10"),
        ("synthetic:many", "needs a whole number"),
        ("synthetic:9", "at least 50"),
    ],
)
def test_bad_specifications(tmp_path, specification, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(specification, tmp_path)


def test_images_of_one_colour_are_refused(tmp_path):
    tree = tmp_path / "tree"
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tree / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tree / split / name / "0.png")
    with pytest.raises(ValueError, match="one colour"):
        load_dataset(f"images:{tree}", tmp_path / "data")


def test_sizes_beyond_the_data_are_named(small_dataset):
    for sizes, message in (
        ((401, 0, 32, 32), "train_size: 401 is more than the 400 images"),
        ((0, 81, 32, 32), "test_size: 81"),
        ((100, 0, 128, 32), "batch_size: 128 is more than the 100"),
        ((100, 0, 32, 101), "probe_size: 101"),
    ):
        with pytest.raises(ValueError, match=message):
            check_sizes(small_dataset, *sizes)


def test_synthetic_images_are_seeded_balanced_and_alike_within_a_class(tmp_path):
    dataset = load_dataset("synthetic:3000", tmp_path)
    again = image_sources.make_synthetic(3000)
    assert set(np.bincount(dataset.train_labels)) == {300}
    assert (np.sort(again.train_images.sum(1)) == np.sort(dataset.train_images.astype(int).sum(1))).all()
    # The mean image of a class in training predicts the class of test images better than chance.
    x, test = dataset.train_images / 255 - 0.5, dataset.test_images / 255 - 0.5
    means = np.stack([x[dataset.train_labels == label].mean(0) for label in range(10)])
    wrong = ((test[:, None] - means[None]) ** 2).sum(2).argmin(1) != dataset.test_labels
    standard_error = np.sqrt(0.9 * 0.1 / len(wrong))
    assert wrong.mean() < 0.9 - 3 * standard_error


def test_synthetic_images_have_a_natural_spectrum():
    images = image_sources._natural_images(np.random.default_rng(0), 400)
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=(0, 1))
    frequency = np.arange(1, 12)
    slope = np.polyfit(np.log(frequency), np.log(power[0, 1:12]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.2)


# The real CIFAR-10 code, on a small archive


def make_archive():
    """CIFAR-10's archive with 20 images per batch, and its members' checksums."""
    buffer, checksums = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:

        def add(name, content):
            raw = pickle.dumps(content)
            checksums[name] = hashlib.md5(raw).hexdigest()
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))

        for number, name in enumerate([*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"]):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 3072)).astype(np.uint8)
            add(name, {"data": pixels, "labels": [index % 10 for index in range(20)]})
        add("batches.meta", {"label_names": list(image_sources.CIFAR10_CLASSES)})
    return buffer.getvalue(), checksums


class CountingHandler(http.server.SimpleHTTPRequestHandler):
    requests: list = []  # noqa: RUF012 (shared on purpose: the server makes a handler per request)

    def do_GET(self):
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def cifar10_server(tmp_path, monkeypatch):
    """A server with a small CIFAR-10 archive, which torchvision is pointed to; yields the list of requests."""
    archive, checksums = make_archive()
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "cifar-10-python.tar.gz").write_bytes(archive)
    handler = functools.partial(CountingHandler, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cifar10 = image_sources.import_torchvision_datasets().CIFAR10
    monkeypatch.setattr(cifar10, "url", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar10, "tgz_md5", hashlib.md5(archive).hexdigest())
    monkeypatch.setattr(cifar10, "train_list", [(f"data_batch_{i}", checksums[f"data_batch_{i}"]) for i in range(1, 6)])
    monkeypatch.setattr(cifar10, "test_list", [("test_batch", checksums["test_batch"])])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": checksums["batches.meta"]}
    monkeypatch.setattr(cifar10, "meta", meta)
    CountingHandler.requests.clear()
    yield CountingHandler.requests
    server.shutdown()
    server.server_close()


quiet_download = pytest.mark.filterwarnings("ignore")  # torchvision's unpickling warns on new numpy


@quiet_download
def test_cifar10_is_downloaded_checked_and_decoded(tmp_path, cifar10_server):
    dataset = load_dataset("cifar10", tmp_path / "data")
    assert dataset.train_images.shape == (100, 3072)
    assert dataset.test_images.shape == (20, 3072)
    assert dataset.classes == image_sources.CIFAR10_CLASSES
    batches = [np.random.default_rng(number).integers(0, 256, (20, 3072)).astype(np.uint8) for number in range(6)]
    for images, labels, own in (
        (dataset.train_images, dataset.train_labels, batches[:5]),
        (dataset.test_images, dataset.test_labels, batches[5:]),
    ):
        label_of = {image.tobytes(): row % 10 for batch in own for row, image in enumerate(batch)}
        assert {image.tobytes(): label for image, label in zip(images, labels, strict=True)} == label_of


def load_in_process(folder):
    load_dataset("cifar10", folder)


@quiet_download
def test_many_workers_download_once(tmp_path, cifar10_server):
    processes = [
        multiprocessing.get_context("fork").Process(target=load_in_process, args=(tmp_path / "data",)) for _ in range(4)
    ]
    load_dataset("cifar10", tmp_path / "alone")
    requests_of_one = len(cifar10_server)
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(cifar10_server) == 2 * requests_of_one


@quiet_download
def test_a_damaged_download_is_refused(tmp_path, cifar10_server, monkeypatch):
    cifar10 = image_sources.import_torchvision_datasets().CIFAR10
    monkeypatch.setattr(cifar10, "tgz_md5", "0" * 32)
    with pytest.raises(ValueError, match=r"cannot be downloaded .*; put .*tar.gz there, or use --data images:DIR"):
        load_dataset("cifar10", tmp_path / "data")
    write_tree(tmp_path / "data" / "cifar10", classes=image_sources.CIFAR10_CLASSES, per_class=1)
    with pytest.raises(ValueError, match=f"; use --data images:{tmp_path / 'data' / 'cifar10'}$"):
        load_dataset("cifar10", tmp_path / "data")


@quiet_download
def test_auto_takes_what_is_on_disk_else_what_can_be_fetched(tmp_path, cifar10_server):
    assert resolve_auto(tmp_path / "data") == ("cifar10", "Data: CIFAR-10, downloaded just now.")
    assert load_dataset("cifar10", tmp_path / "data").train_images.shape == (100, 3072)
    assert resolve_auto(tmp_path / "data")[1] == "Data: CIFAR-10, found on disk."
    assert len(cifar10_server) == 1
    write_tree(tmp_path / "other" / "cifar10", classes=image_sources.CIFAR10_CLASSES, per_class=1)
    assert resolve_auto(tmp_path / "other")[0] == f"images:{tmp_path / 'other' / 'cifar10'}"


def test_auto_without_network_says_loudly_that_images_are_synthetic(tmp_path, monkeypatch):
    cifar10 = image_sources.import_torchvision_datasets().CIFAR10
    monkeypatch.setattr(cifar10, "url", "http://127.0.0.1:9/nothing")
    specification, sentence = resolve_auto(tmp_path / "data")
    assert specification == "synthetic"
    assert "SYNTHETIC IMAGES, NOT CIFAR-10" in sentence


@pytest.mark.parametrize("damage", [lambda whole: whole[:-10], lambda whole: whole + b"x"])
def test_auto_does_not_take_a_damaged_archive(tmp_path, cifar10_server, damage):
    served = tmp_path / "www" / "cifar-10-python.tar.gz"
    served.write_bytes(damage(served.read_bytes()))
    assert resolve_auto(tmp_path / "data")[0] == "synthetic"
    assert not (tmp_path / "data" / "cifar-10-python.tar.gz").exists()
    (tmp_path / "data" / "cifar-10-python.tar.gz").write_bytes(b"half of it")
    assert resolve_auto(tmp_path / "data")[0] == "synthetic"


def test_auto_gives_up_a_slow_download(tmp_path, cifar10_server, monkeypatch):
    monkeypatch.setattr(image_sources, "FETCH_SECONDS", -1.0)
    assert "longer" in image_sources.fetch_cifar10_quickly(tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
