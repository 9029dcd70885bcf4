"""What is kept of ended runs is served whole and unaltered, or not at all."""

import threading

import numpy as np
import pandas as pd
import pytest

from analysis.tables_cache import cache_path, read_cache, write_cache

COLUMNS = ("epoch", "error")


def make_tables(count, first=0):
    return {
        (f"run{number}", 1000 + number): pd.DataFrame({"epoch": np.arange(float(number)), "error": number * 0.1})
        for number in range(first, first + count)
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, table in expected.items():
        pd.testing.assert_frame_equal(found[key].reset_index(drop=True), table, check_dtype=False)


def test_what_was_written_is_read_empty_tables_included(tmp_path):
    tables = make_tables(5)
    write_cache(tmp_path / "folder" / "some.cache", COLUMNS, tables)
    assert_same(read_cache(tmp_path / "folder" / "some.cache", COLUMNS), tables)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["some.cache"]


@pytest.mark.parametrize("tables", [{}, make_tables(1)])
def test_nothing_is_kept_too(tmp_path, tables):
    write_cache(tmp_path / "some.cache", COLUMNS, tables)
    assert_same(read_cache(tmp_path / "some.cache", COLUMNS), tables)


def test_a_file_that_was_altered_anywhere_or_cut_off_is_passed_over(tmp_path):
    path = tmp_path / "some.cache"
    write_cache(path, COLUMNS, make_tables(5))
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert read_cache(path, COLUMNS) == {}
        path.write_bytes(content[:place])
        assert read_cache(path, COLUMNS) == {}


def test_other_columns_or_no_file_are_no_cache(tmp_path):
    path = tmp_path / "some.cache"
    assert read_cache(path, COLUMNS) == {}
    write_cache(path, COLUMNS, make_tables(2))
    assert read_cache(path, ("epoch", "loss")) == {}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    write_cache(tmp_path / "file" / "some.cache", COLUMNS, make_tables(2))


def test_writers_and_readers_at_the_same_time_see_whole_files(tmp_path):
    path, choices = tmp_path / "some.cache", (make_tables(4), make_tables(6, first=10))
    write_cache(path, COLUMNS, choices[0])
    writers = [
        threading.Thread(target=lambda tables=tables: [write_cache(path, COLUMNS, tables) for _ in range(20)])
        for tables in choices
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert read_cache(path, COLUMNS).keys() in [tables.keys() for tables in choices]
    for writer in writers:
        writer.join()


def test_studies_and_stores_have_files_of_their_own():
    places = {cache_path(uri, study, table) for uri in ("a", "b") for study in ("1", "2") for table in ("x", "y")}
    assert len(places) == 8
