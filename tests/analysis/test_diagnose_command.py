"""`iv diagnose`: exit status, and what it prints and writes."""

import errno
import json
import os

import click
import pytest
import tiny
import tiny_training
from click.testing import CliRunner

import instruction_vectors.analysis.diagnosis
import instruction_vectors.analysis.outside
from instruction_vectors.analysis.pair import Pair
from instruction_vectors.cli import main


@pytest.fixture
def iv(monkeypatch):
    """Run `iv diagnose` on a tiny pair instead of one from disk; everything after opening is real."""

    def opened(base, tuned, **kwargs):
        return Pair(tiny.tokenizer(), tiny_training.adapted())

    monkeypatch.setattr(instruction_vectors.analysis.diagnosis, "open_pair", opened)
    return lambda *arguments: CliRunner().invoke(main, ["diagnose", *map(str, arguments)])


def file_of(folder, name, shift):
    lines = [{"instruction": tiny.text(30, shift), "knowledge": [f"{{input}} {tiny.WORDS[20]}"]}]
    lines += [{"input": tiny.WORDS[i], "output": tiny.WORDS[(i * 7 + shift) % 36]} for i in range(26)]
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_one_of_tuned_and_adapter_is_asked_for(iv, tmp_path):
    assert iv().exit_code == 2
    assert iv("--tuned", "x", "--adapter", tmp_path).exit_code == 2


def test_numbers_and_artefacts_are_written(iv, tmp_path):
    tasks = [part for k in (1, 5) for part in ("--task", file_of(tmp_path, f"t{k}", k))]
    result = iv("--tuned", "tiny", *tasks, "--rows", 6, "--out", tmp_path / "out", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (3 if found["bad"] else 0), result.stderr
    assert set(found["tasks"]) == {"t1", "t5"}
    assert json.loads((tmp_path / "out/diagnosis.json").read_text()) == found
    assert (tmp_path / "out/diagnosis.md").read_text().startswith("# Diagnosis")
    assert (tmp_path / "out/tables/verdicts.parquet").exists()
    report = CliRunner().invoke(main, ["report", str(tmp_path / "out")])
    assert report.exit_code == 0
    assert "What kind of loss" in (tmp_path / "out/report.html").read_text()


def test_a_bad_verdict_is_exit_status_3(iv, tmp_path, monkeypatch):
    monkeypatch.setattr(instruction_vectors.analysis.diagnosis.Diagnosis, "bad", property(lambda self: True))
    tasks = [part for k in (1, 5) for part in ("--task", file_of(tmp_path, f"t{k}", k))]
    result = iv("--tuned", "tiny", *tasks, "--rows", 6, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert result.stdout.startswith("# Diagnosis")
    assert json.loads((tmp_path / "out/guidance.json").read_text())["kl_weight"] == 1.0


def test_lm_eval_s_flags_go_together(iv, tmp_path):
    for flags in (("--include-path", tmp_path), ("--limit", 3)):
        result = iv("--tuned", "tiny", *flags)
        assert result.exit_code == 2
        assert "go with --lm-eval" in result.stderr


def test_lm_eval_tasks_are_told_apart_by_commas(iv, tmp_path, monkeypatch):
    asked = {}

    def rows(self, model, tokenizer):
        asked["it"] = self
        return {"a": [1.0]}

    monkeypatch.setattr(instruction_vectors.analysis.outside.LmEval, "rows", rows)
    tasks = [part for k in (1, 5) for part in ("--task", file_of(tmp_path, f"t{k}", k))]
    result = iv("--tuned", "tiny", *tasks, "--rows", 6, "--lm-eval", "a, b", "--include-path", tmp_path, "--limit", 3)
    assert "| a | lm-eval | 1.00 | 1.00 |" in result.stdout, result.stderr
    assert asked["it"] == instruction_vectors.analysis.outside.LmEval(("a", "b"), tmp_path, 3)


def test_what_cannot_be_read_is_told(iv, tmp_path):
    result = iv("--tuned", "tiny", "--task", tmp_path / "none.jsonl", "--task", "antonym")
    assert result.exit_code == 1
    assert "no such file" in result.stderr


def test_what_was_measured_is_on_disk_before_it_is_printed(iv, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tasks = [part for k in (1, 5) for part in ("--task", file_of(tmp_path, f"t{k}", k))]
    monkeypatch.setattr(click, "echo", broken)
    iv("--tuned", "tiny", *tasks, "--rows", 6, "--out", tmp_path / "out")
    assert set(json.loads((tmp_path / "out/diagnosis.json").read_text())["tasks"]) == {"t1", "t5"}


def test_tables_of_an_earlier_diagnosis_do_not_stay_among_the_new(iv, tmp_path):
    tasks = [part for k in (1, 5) for part in ("--task", file_of(tmp_path, f"t{k}", k))]
    asked = ("--tuned", "tiny", *tasks, "--rows", 6, "--out", tmp_path / "out")
    iv(*asked)
    tables = tmp_path / "out/tables"
    written = sorted(path.name for path in tables.iterdir())
    for name in ("lm_eval.parquet", "verdicts.csv", "of my own.csv"):
        (tables / name).write_text("old")
    iv(*asked)
    assert sorted(path.name for path in tables.iterdir()) == sorted([*written, "of my own.csv"])
