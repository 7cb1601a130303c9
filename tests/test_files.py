"""Files are written whole or not at all, and read with complaints that name the place."""

import errno
import json
import os
import tempfile

import pytest

from instruction_vectors.errors import DataError
from instruction_vectors.files import check_writable, read_json, read_json_lines, storage_failure, write_atomic, write_json


def test_text_and_bytes_are_written_as_they_are_into_folders_that_need_not_exist(tmp_path):
    write_atomic(tmp_path / "a" / "b.txt", "café\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "café\n".encode()
    write_atomic(tmp_path / "a" / "b.txt", b"\x00\xff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch, failing):
    path = tmp_path / "x.json"
    write_atomic(path, "old")

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if failing == "fsync" else (type(path), "replace")), interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomic(path, "new and longer")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_file_that_can_be_written_is_neither_made_nor_touched_by_asking(tmp_path):
    check_writable(tmp_path / "new" / "x.json")
    assert list((tmp_path / "new").iterdir()) == []
    write_atomic(tmp_path / "new" / "x.json", "old")
    check_writable(tmp_path / "new" / "x.json")
    assert [(p.name, p.read_text()) for p in (tmp_path / "new").iterdir()] == [("x.json", "old")]


@pytest.mark.parametrize("inside", ["taken", "taken/deeper"])
def test_a_file_in_what_is_no_folder_cannot_be_written(tmp_path, inside):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(NotADirectoryError) as refused:
        check_writable(tmp_path / inside / "x.json")
    assert refused.value.filename == str(tmp_path / inside)


def test_a_folder_that_is_there_but_takes_no_file_is_named(tmp_path, monkeypatch):
    def read_only(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", "some neighbour")

    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    with pytest.raises(PermissionError, match="Permission denied") as refused:
        check_writable(tmp_path / "x.json")
    assert refused.value.filename == str(tmp_path)


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": "ä"})
    for bad in (float("inf"), object(), {"x": {1, 2}}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, bad)
    assert json.loads(path.read_text(encoding="utf-8")) == {"b": 1, "a": "ä"}
    assert list(read_json(path)) == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', "not JSON \\(line 2, column 7"),
        (b"", "not JSON \\(line 1, column 1"),
        (b"\xff\xfe", "line 1: not UTF-8 text \\(byte 0 of the file\\)"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"x.json(: |, ){message}"):
        read_json(path)


def test_a_mark_of_the_byte_order_is_no_part_of_a_text(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert list(read_json_lines(path)) == [(1, {"a": 1})]


def test_missing_files_and_folders_are_refused_by_name(tmp_path):
    for read in (read_json, lambda path: list(read_json_lines(path))):
        with pytest.raises(DataError, match=r"gone\.json: no such file"):
            read(tmp_path / "gone.json")
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "a file was not taken whole"),
        (TypeError("f() got unexpected positional arguments"), None),
    ],
)
def test_what_is_the_disk_s_fault_and_what_is_not(error, reason):
    assert storage_failure(error) == reason
