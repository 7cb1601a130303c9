"""Rows that are measured on and also stand in another set's rows to train on, however the two sets write them."""

import json
import random
from pathlib import Path

from click.testing import CliRunner

from instruction_vectors.cli import main
from instruction_vectors.tasks import load_benchmark
from instruction_vectors.tasks.leaks import Leak, leaks, leaks_in
from instruction_vectors.tasks.validate import validate
from instruction_vectors.tasks.validation_report import render

WORDS = [f"word{number}" for number in range(2000)]
DRAWN = random.Random(0)
TEXTS = [" ".join(DRAWN.sample(WORDS, 30)) for _ in range(40)]


def titled(text: str) -> str:
    words = text.split()
    return f"Title: {' '.join(words[:8])}\nText: {' '.join(words[8:])}\n"


def test_a_text_is_found_in_another_writing_and_an_unlike_one_is_not() -> None:
    measured = {"a/test": [titled(text) for text in TEXTS[:10]] + TEXTS[20:30]}
    trained = {"b/train": [text.upper().replace(" ", ", ") + "?\na: one\nb: two" for text in TEXTS[:7]], "c/train": TEXTS[30:]}
    assert leaks(measured, trained) == (Leak("a/test", "b/train", 7, 20),)


def test_most_of_a_text_is_enough_and_a_little_is_not() -> None:
    most = [" ".join(text.split()[:22]) for text in TEXTS]  # 17 of 25 runs of six words
    little = [" ".join(text.split()[:8]) for text in TEXTS]  # 3 of 25, of which a sketch holds at most 3 of 8
    assert leaks({"a": TEXTS}, {"b": little}) == ()
    (found,) = leaks({"a": TEXTS}, {"b": most})
    assert found.rows >= 30


def test_short_texts_and_a_sets_own_name_are_not_compared() -> None:
    assert leaks({"a": ["five words are too few"]}, {"b": ["five words are too few"]}) == ()
    assert leaks({"a": TEXTS}, {"a": TEXTS}) == ()
    assert leaks({"a": ["six words are long enough now"]}, {"b": ["six words are long enough now"]})[0].rows == 1


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def folder(root: Path) -> Path:
    """LONG whose test rows stand in FUNC, FUNC whose rows stand in a general set; each set writes them in its own way."""
    put(root / "func/abstractive/ag_news.json", [{"input": text, "output": "Business"} for text in TEXTS[:10]])
    rows = [{"label": "World", "sentence": titled(text)} for text in TEXTS]
    put(root / "long/agnews/train.json", rows[20:])
    put(root / "long/agnews/test.json", rows[:20])
    put(root / "long/agnews/labels.json", ["World", "Sports"])
    put(root / "eval/openbookqa.json", [{"query": text + "?", "choices": ["a", "b"], "gold": 0} for text in TEXTS[25:35]])
    put(root / "eval/bbh/navigate.json", {"examples": [{"input": text, "target": "x"} for text in TEXTS[:4]]})
    return root


def test_a_folder_is_looked_through_in_both_directions(tmp_path: Path) -> None:
    data = folder(tmp_path)
    func = load_benchmark("func", data)
    learnt = {row.input for row in func.tasks["ag_news"].train.rows}
    found, notes = leaks_in(data, load_benchmark("long", data))
    assert notes == ()
    assert found == (
        Leak("long/agnews", "func/ag_news", len(learnt), 20),
        Leak("eval/openbookqa", "long/agnews", 10, 10),
    )
    assert 0 < len(learnt) < 10
    assert leaks_in(data, func)[0] == (
        (Leak("eval/bbh/navigate", "func/ag_news", shared, 4),) if (shared := len(learnt & set(TEXTS[:4]))) else ()
    )


def test_the_report_tells_leaks_and_what_could_not_be_compared(tmp_path: Path) -> None:
    data = folder(tmp_path)
    put(data / "trace/500/FOMC/train.json", [])
    put(data / "eval/broken.json", {"nothing": 1})
    (data / "eval" / "worse.json").write_text("[")
    report = validate(load_benchmark("long", data), data_dir=data)
    text = render(report)
    assert "eval/openbookqa: 10 of 10 rows to measure on also stand in long/agnews, to train on" in text
    for part in ("not compared with trace: ", "not compared with eval/broken: no list", "not compared with eval/worse: "):
        assert any(note.startswith(part) for note in report.notes)
    printed = CliRunner().invoke(main, ["tasks", "validate", "long", "--data-dir", str(data), "--json"])
    assert json.loads(printed.output)["leaks"][-1] == {
        "measured": "eval/openbookqa", "trained": "long/agnews", "rows": 10, "of": 10,
    }  # fmt: skip
    assert json.loads(printed.output)["notes"] == list(report.notes)


def test_without_a_folder_nothing_is_compared(tmp_path: Path) -> None:
    assert validate(load_benchmark("long", folder(tmp_path))).leaks == ()


def test_a_benchmarks_own_folder_is_compared_with_its_neighbours(tmp_path: Path) -> None:
    data = folder(tmp_path)
    long = load_benchmark("long", data)
    assert leaks_in(data / "long", long) == leaks_in(data, long)
    (tmp_path / "alone").mkdir()
    (data / "long").rename(tmp_path / "alone/mine")
    found, notes = leaks_in(tmp_path / "alone/mine", long)
    assert (found, len(notes)) == ((), 1)
    assert "no other set and no eval/" in notes[0]
