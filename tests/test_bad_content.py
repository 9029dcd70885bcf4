"""Any content at all, of records, trees of images, caches and spaces: a right result or one clear line."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from search_spaces.axes import grid
from study.datasets import load_dataset
from study.packing import make_packs
from study.train_loop import MemberEpoch
from study.trial_config import FIELD_NAMES, TrialConfig
from study.trial_record import TrialRecord, end_as_failed, read_environment, read_error, read_lines, read_status

SLOW_MACHINE = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def write_record(path):
    trial = TrialConfig(depth=3, epochs=2)
    record = TrialRecord(path, trial, "pack", {"data_checksum": "1"})
    for epoch in range(3):
        record.add_epoch(MemberEpoch(trial.trial_id, epoch, {"train/error": 0.5}, [(0, 0.0, 0, 1.0)], False))
    record.end("ok")
    return path.read_bytes()


def read_everything(path):
    """Return what readers make of a record; none of them may raise."""
    return [line for line, _ in read_lines(path)], read_status(path), read_environment(path), read_error(path)


@SLOW_MACHINE
@given(st.data())
def test_a_damaged_record_gives_its_first_whole_lines_or_nothing(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.jsonl"
        content = bytearray(write_record(path))
        whole = [json.loads(line) for line in content.splitlines()]
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        lines, status, _, _ = read_everything(path)
        assert status not in ("failed", "diverged")  # no damage makes an ending
        assert len(lines) <= len(whole)
        if status == "ok":
            assert lines[-1]["kind"] == "end"


@SLOW_MACHINE
@given(st.lists(st.one_of(JSON.map(lambda line: json.dumps(line).encode()), st.binary(max_size=30)), max_size=6))
def test_a_record_of_anything_is_read_without_an_exception(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.jsonl"
        path.write_bytes(b"\n".join(lines) + b"\n")
        read_everything(path)
        end_as_failed(path, TrialConfig(depth=3), "pack", {}, "lost")
        assert read_status(path) == "failed"


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20)
CONTENTS = st.one_of(st.binary(max_size=60), st.sampled_from(["png", "jpg", "gif", "cut"]))


def write_image(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    Image.new("RGB", (32, 32), (len(path.name) * 7 % 256, 90, 20)).save(
        path, "PNG" if content == "cut" else content_format(content)
    )
    if content == "cut":
        path.write_bytes(path.read_bytes()[:50])


def content_format(content):
    return {"png": "PNG", "jpg": "JPEG", "gif": "GIF"}[content]


TREES = st.dictionaries(
    st.tuples(st.sampled_from(["train", "test", "other"]), st.sampled_from(["cat", "dog", "ä b", ".hidden"])),
    st.dictionaries(st.sampled_from(["0.png", "1.jpg", "a b.png", "x.txt", ".y.png", "ü.PNG"]), CONTENTS, max_size=3),
    max_size=6,
)


@settings(SLOW_MACHINE, max_examples=40)
@given(TREES)
@pytest.mark.filterwarnings("ignore")
def test_any_tree_of_images_is_a_data_set_or_one_line(tree):
    with tempfile.TemporaryDirectory() as folder:
        for (split, name), images in tree.items():
            place = Path(folder) / "tree" / split / name
            place.mkdir(parents=True)
            for image, content in images.items():
                write_image(place / image, content)
        before = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        message = ""
        try:
            dataset = load_dataset(f"images:{folder}/tree", Path(folder) / "data")
        except ValueError as error:
            message = str(error)
        if message:
            assert message.startswith("data: ")
            assert "\n" not in message
        else:
            assert len(dataset.classes) >= 2
            assert dataset.train_images.shape == (len(dataset.train_labels), 3072)
            assert set(np.unique(dataset.test_labels)) <= set(range(len(dataset.classes)))
        assert {path: path.read_bytes() for path in before} == before


@settings(SLOW_MACHINE, max_examples=12)
@given(st.data())
def test_a_damaged_cache_is_made_again(data):
    with tempfile.TemporaryDirectory() as folder:
        good = load_dataset("synthetic:50", Path(folder))
        (cache,) = (Path(folder) / "cache").glob("*.arrays")
        content = bytearray(cache.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
            content[place] = data.draw(st.integers(0, 255))
        cache.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        again = load_dataset("synthetic:50", Path(folder))
        assert again.checksum == good.checksum
        assert (again.train_images == good.train_images).all()


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just("relu"))


@SLOW_MACHINE
@given(
    st.dictionaries(
        st.sampled_from([*FIELD_NAMES, "dept"]), st.one_of(VALUES, st.lists(VALUES, max_size=3)), max_size=4
    )
)
def test_any_grid_is_a_list_of_trials_or_one_line(axes):
    message = ""
    try:
        packs = make_packs(grid(**{"depth": 3, **axes}), 4)
    except ValueError as error:
        message = str(error)
    if message:
        assert ": " in message
        assert "\n" not in message
    else:
        assert all(len({trial.pack_key for trial in pack.trials}) == 1 for pack in packs)
