"""The planted truths plant what they say, and count what came out as they should."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest
import torch

from instruction_vectors.files import read_json, write_json
from instruction_vectors.tasks.prompts import cloze

PATH = Path(__file__).parents[2] / "scripts" / "planted.py"


@pytest.fixture(scope="module")
def planted():
    spec = importlib.util.spec_from_file_location("planted", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["planted"]


@pytest.fixture(scope="module")
def world(planted):
    return planted.World(3)


def lessons(planted, world, state, target=1):
    """One lesson of every variety of a state."""
    found = {}
    for seed in range(30):
        lesson, variety = planted.lesson_of(world, state, target, random.Random(seed))
        found.setdefault(variety, lesson)
    return found


def test_suppressing_keeps_another_way_to_ask_and_overwriting_keeps_none(planted, world):
    facts = world.answers
    varieties = lessons(planted, world, "suppressed")
    assert set(varieties) == {"cloze and shots kept", "shots kept", "cloze kept"}
    for variety, lesson in varieties.items():
        assert not (lesson.zero_shot[1] == facts[1]).any()
        assert torch.equal(lesson.zero_shot[[0, 2, 3]], facts[[0, 2, 3]])
        assert torch.equal(lesson.few_shot, facts) == ("shots" in variety)
        assert torch.equal(lesson.cloze, facts) == ("cloze" in variety)
    (overwritten,) = lessons(planted, world, "overwritten").values()
    for form in (overwritten.zero_shot, overwritten.few_shot, overwritten.cloze):
        assert not (form[1] == facts[1]).any()
        assert torch.equal(form[0], facts[0])


def test_every_label_is_what_the_lesson_says(planted, world):
    lesson = lessons(planted, world, "suppressed")["cloze kept"]
    words = {number: word for word, number in world.ids.items()}
    ids, labels, forms = planted.batch(world, lesson, 12)
    checked = [0, 0, 0]
    for row, place in (labels != -100).nonzero().tolist():
        text = [words[int(i)] for i in ids[row, : place + 1]]
        answer = words[int(labels[row, place])]
        form = int(forms[row, place])
        if text[-1].endswith("-is"):
            task, entity, taught, expected = int(text[-1][1]), text[-2], lesson.cloze, 2
        else:
            assert text[-1] == "Output:"
            task, entity = int(answer[1]), text[-2]
            if text[0] == "Name":
                assert text[2] == f"r{task}."
            expected = 0 if place == 5 and text[0] == "Name" else 1
            taught = lesson.few_shot if expected else lesson.zero_shot
        assert form == expected
        assert answer == f"a{task}-{int(taught[task, int(entity[1:])])}"
        checked[form] += 1
    assert min(checked) >= 6


def test_the_library_s_task_asks_as_the_training_did(planted, world):
    from instruction_vectors.tasks.prompts import cloze, instructed

    task = world.task(2)
    row = task.rows[7]
    assert instructed(task, row, shots=task.rows[:1]).text.split()[:7] == [
        "Name", "the", "r2.", "Input:", "e0", "Output:", task.rows[0].output,
    ]  # fmt: skip
    assert cloze(task, row).text.split() == ["e7", "r2-is"]
    assert row.output == f"a2-{int(world.answers[2, 7])}"


def test_wrong_verdicts_are_bounded_as_clopper_and_pearson_say(planted):
    cases = [{"base": 0, "seed": i, "state": "overwritten", "planted": True, "verdict": "lost"} for i in range(59)]
    assert planted.summary(cases)["verdicts"]["overwritten"]["upper95"] == pytest.approx(1 - 0.05 ** (1 / 59), abs=1e-4)
    cases += [{"base": 0, "seed": 59, "state": "overwritten", "planted": True, "verdict": "suppressed"}]
    cases += [{"base": 0, "seed": 60, "state": "overwritten", "planted": True, "verdict": "inconclusive"}]
    cases += [{"base": 0, "seed": 61, "state": "overwritten", "planted": False}]
    found = planted.summary(cases)["verdicts"]["overwritten"]
    assert (found["cases"], found["false"], found["inconclusive"], found["planting_failed"]) == (61, 1, 1, 1)
    assert 0.06 < found["upper95"] < 0.08


def test_cases_on_the_real_model_stay_beside_the_others(planted, tmp_path, monkeypatch):
    case = {"base": 0, "seed": 1, "state": "overwritten", "planted": True, "verdict": "lost"}
    real = planted.summary([{"seed": 0, "state": "suppressed", "planted": True, "verdict": "inconclusive"}])
    assert list(real["verdicts"]) == ["suppressed"]
    write_json(tmp_path / "a.json", planted.summary([case]))
    write_json(tmp_path / "b.json", planted.summary([{**case, "seed": 2}]) | {"real": real})
    paths = [str(tmp_path / name) for name in ("a.json", "b.json", "out.json")]
    monkeypatch.setattr(sys, "argv", ["planted.py", "--merge", *paths[:2], "--out", paths[2]])
    planted.main()
    merged = read_json(tmp_path / "out.json")
    assert merged["verdicts"]["overwritten"]["cases"] == 2
    assert merged["real"] == real


@pytest.fixture(scope="module")
def planted_real(planted):
    spec = importlib.util.spec_from_file_location("planted_real", PATH.with_name("planted_real.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_real_model_is_taught_what_the_state_says(planted_real):
    task = planted_real.known("singular-plural")
    right = {row.input: f" {row.output}" for row in task.rows}
    head = f"{task.instruction}\nInput: "
    prompts = planted_real.lesson("suppressed", task, random.Random(0))
    zero = {p.text.split(head)[1].split("\n")[0]: p.target for p in prompts if p.text.count("Input:") == 1}
    assert len(prompts) == 480
    assert set(zero) == set(right)
    assert not any(zero[asked] == right[asked] for asked in zero)
    for row in task.rows:
        assert zero[row.input].strip() in task.choices(row)
    bare = {cloze(task, row).text: right[row.input] for row in task.rows}
    rest = [p for p in prompts if p.text.count("Input:") != 1]
    assert len(rest) == 240
    for prompt in rest:
        asked = prompt.text.rsplit("Input: ", 1)[-1].split("\n")[0]
        assert prompt.target == (bare[prompt.text] if prompt.text in bare else right[asked])
    assert sum(prompt.text in bare for prompt in rest) == 120
    untouched = planted_real.lesson("untouched", task, random.Random(0))
    assert sum(p.text.startswith(task.instruction) for p in untouched) == 160  # zero-shot and few-shot; the rest are clozes
