"""What a model scores on a task as its benchmark scores it, and what it scores before any training."""

import json

import pytest
import tiny
import tiny_world
import torch
from click.testing import CliRunner

from instruction_vectors.cli import main
from instruction_vectors.evaluation import answers
from instruction_vectors.evaluation.answers import Floor, answer_scores
from instruction_vectors.evaluation.scoring import score
from instruction_vectors.evaluation.text_metrics import rouge_l
from instruction_vectors.tasks import Example, Task
from instruction_vectors.tasks.validate import validate
from instruction_vectors.tasks.validation_report import render

LAYOUT = "{instruction} {input} w9"


@pytest.fixture
def pair():
    return tiny.model("gpt2"), tiny.tokenizer()


@torch.no_grad()
def says(model, tokenizer, prompt, new=1):
    """Greedy decoding, one forward a token."""
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(new):
        ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def task(rows, **more):
    return Task("t", ("w1 w2",), rows, layout=LAYOUT, **more)


def written(pair, new=5):
    """Twelve rows scored by ROUGE-L, whose answers are what the model writes, but for every third."""
    rows = []
    for number in range(30):
        given = tiny.text(number, number + 1)
        if (answer := says(*pair, LAYOUT.format(instruction="w1 w2", input=given), new)).strip():
            rows.append(Example(given, answer if len(rows) % 3 else "w35 w34"))
    return task(tuple(rows[:12]), metric="rouge_l")


def test_text_metrics_score_what_greedy_decoding_writes(pair):
    asked = written(pair)
    prompts = [LAYOUT.format(instruction="w1 w2", input=row.input) for row in asked.rows]
    expected = [rouge_l(says(*pair, prompt, 5), row.answers) for prompt, row in zip(prompts, asked.rows, strict=True)]
    assert answer_scores(*pair, asked, prompts, max_new_tokens=5) == pytest.approx(expected)
    assert expected.count(1.0) >= 8


@pytest.mark.parametrize("answer", ["w3", "\nw3", " w3 \nw4"])
def test_of_an_answer_of_several_lines_the_first_that_holds_something_counts(pair, answer, monkeypatch):
    asked = []
    monkeypatch.setattr(answers, "score", lambda *args, **more: asked.append(args[3]) or score(*args, **more))
    answer_scores(*pair, task((Example("w1", answer),)), ["w1 w2"], max_new_tokens=5)
    assert asked == [[[" w3"]]]


def test_a_floor_is_the_score_without_examples_on_rows_drawn_by_name(pair):
    asked = written(pair)
    assert sorted(Floor(*pair, max_new_tokens=5)(asked)["rouge_l"]) == pytest.approx(
        sorted(
            answer_scores(*pair, asked, [LAYOUT.format(instruction="w1 w2", input=r.input) for r in asked.rows], max_new_tokens=5)
        )
    )
    few = Floor(*pair, rows=5, max_new_tokens=5)(asked)
    assert len(few["rouge_l"]) == 5
    assert few == Floor(*pair, rows=5, max_new_tokens=5)(asked)


def test_labels_are_also_ranked(pair):
    labels = ("w3", "w5", "w8 w9")
    inputs = [tiny.text(n, n + 1) for n in range(10)]
    prompts = [LAYOUT.format(instruction="w1 w2", input=i) for i in inputs]
    scored = score(*pair, prompts, [[f" {label}" for label in labels]] * 10)
    best = [max(labels, key=lambda label, row=row: row[labels.index(label)].logprob) for row in scored]
    rows = tuple(
        Example(i, b if n % 2 else next(x for x in labels if x != b)) for n, (i, b) in enumerate(zip(inputs, best, strict=True))
    )
    found = Floor(*pair)(task(rows, options=labels, kind="classify"))
    assert sorted(found) == ["accuracy", "ranked options"]
    assert sum(found["ranked options"]) == 5


def test_long_rows_of_a_floor_are_cut_to_the_context(pair):
    long = task((Example(tiny.text(*range(30)) + " " + " ".join(["w5"] * 200), "w3"),))
    assert len(Floor(*pair)(long)["accuracy"]) == 1  # 128 tokens, 64 of them for the answer


def test_validate_asks_the_model_on_test_rows_and_shows_it_beside_the_majority(pair):
    asked = written(pair)
    report = validate(asked, base=Floor(*pair, max_new_tokens=5))
    (base,) = report.tasks[0].sides["rows"].base
    assert (base.rows, base.measure) == (12, "rouge_l")
    assert base.mean == pytest.approx(sum(Floor(*pair, max_new_tokens=5)(asked)["rouge_l"]) / 12)
    assert f"M0 without examples: rouge_l {base.mean:.0%} on 12 rows" in render(report)
    assert validate(asked).tasks[0].sides["rows"].base == ()


def test_the_command_opens_the_model_and_asks_test_sides_only(tmp_path):
    model = tiny_world.save(tmp_path / "model")
    path = tmp_path / "func" / "abstractive" / "antonym.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"input": f"w{i}", "output": "v"} for i in range(10)]))
    printed = CliRunner().invoke(main, ["tasks", "validate", "func", "--data-dir", str(tmp_path), "--model", model, "--json"])
    assert printed.exit_code == 0, printed.output
    sides = json.loads(printed.stdout)["tasks"][0]["sides"]
    assert {name: [one["rows"] for one in side["base"]] for name, side in sides.items()} == {
        "train": [],
        "eval": [],
        "test": [2],
    }
    assert sides["test"]["base"][0]["measure"] == "accuracy"
    assert 0 <= sides["test"]["base"][0]["mean"] <= 1
