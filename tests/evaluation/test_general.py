"""General ability on sets of questions, against forwards of each question alone."""

import json

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.general import after, read_general_set
from instruction_vectors.evaluation.multiple_choice import LAYOUTS, Question, _tell, plain
from instruction_vectors.evaluation.open_questions import open_kind, read_open_questions

QUESTIONS = [{"query": f"w{i} w{i + 1}", "choices": [f"w{i + 20}", f"w{i + 21}", "w3 w4"], "gold": i % 3} for i in range(6)]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "openbookqa.json").write_text(json.dumps(QUESTIONS))
    return tmp_path


@torch.no_grad()
def logprob(model, tokenizer, context, choice):
    before, whole = (tokenizer(text)["input_ids"] for text in (context, f"{context} {choice}"))
    logprobs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(logprobs[i - 1, whole[i]]) for i in range(len(before), len(whole)))


def test_both_forms_rank_the_choices_and_are_corrected_for_chance(data):
    model, tokenizer = tiny.model("gpt2"), tiny.tokenizer()
    measured = read_general_set("openbookqa", data, rows=4, shots=2).measure(model, tokenizer)
    solved = "".join(f"{q['query']} {q['choices'][q['gold']]}\n\n" for q in QUESTIONS[4:6])
    for form, before in (("zero_shot", ""), ("in_context", solved)):
        expected = []
        for question in QUESTIONS[:4]:
            scores = [logprob(model, tokenizer, before + question["query"], choice) for choice in question["choices"]]
            expected.append(1.0 if scores.index(max(scores)) == question["gold"] else -0.5)
        assert measured[form] == pytest.approx(expected)


def test_shots_stand_solved_before_the_question():
    shot, asked = Question("a", ("b", "c"), 1), Question("d", ("e", "f"), 0)
    assert after([shot], plain)(asked) == ("a c\n\nd", ("e", "f"))
    context, letters = after([shot], LAYOUTS["commonsense_qa"])(asked)
    assert context.startswith("Question: a\nA. b\nB. c\nAnswer: B\n\nQuestion: d\n")
    assert letters == ["A", "B"]


def test_an_unknown_set_and_a_small_one_are_refused(data):
    with pytest.raises(DataError, match="unknown general set 'magic'; there are hellaswag"):
        read_general_set("magic", data, 2)
    with pytest.raises(DataError, match=r"openbookqa\.json: 6 questions, fewer than 4 and 5 shots"):
        read_general_set("openbookqa", data, 4)


def written(model, tokenizer, prompt, new):
    """Greedy decoding, one forward a token."""
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(new):
        ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.mark.parametrize(
    ("name", "row", "prompt"),
    [
        ("lambada", {"context": "w1 w2 w3", "continuation": "{}"}, "w1 w2 w3"),
        ("nq_open", {"question": "w4 w5", "answer": ["w39", "{}"]}, "Q: w4 w5?\nA:"),
        ("bbh/object_counting", {"input": "w6 w7", "target": "{}"}, "Q: w6 w7\nA:"),
        (
            "instructions_alpaca",
            {"instruction": "w8", "input": "w9 w10", "output": "{}"},
            "### Instruction:\nw8\n\n### Input:\nw9 w10\n\n### Response:\n",
        ),
    ],
)
def test_open_sets_are_right_where_the_model_writes_the_answer(tmp_path, name, row, prompt):
    model, tokenizer = tiny.model("gpt2"), tiny.tokenizer()
    new = {"lambada": 1, "instructions_alpaca": 64}.get(name, 16)
    with torch.no_grad():
        says = written(model, tokenizer, prompt, new).strip()
    path = tmp_path / "eval" / f"{name}.json"
    path.parent.mkdir(parents=True)
    fill = lambda answer: json.loads(json.dumps(row).replace("{}", answer))  # noqa: E731
    wrong = "w35 w34" if name != "lambada" else next(w for w in tiny.WORDS if w != says)
    rows = [fill(says), fill(wrong), fill("w1")]
    path.write_text(json.dumps({"examples": rows} if name.startswith("bbh/") else rows))
    measured = read_general_set(name, tmp_path, rows=2, shots=1).measure(model, tokenizer)
    assert measured["zero_shot"][0] == 1
    assert measured["zero_shot"][1] < 1
    assert len(measured["in_context"]) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "w1"}, "row 2: no 'answer'"),
        ({"question": "w1", "answer": []}, "row 2: 'answer' has no answer"),
        ({"question": "w1", "answer": [3]}, "row 2: 'answer' must be text, got int"),
        ({"question": " ", "answer": "w1"}, "row 2: 'question' is empty"),
        ({"question": "w1", "answer": ["w2", "\ud800"]}, "row 2: 'answer' holds half of a surrogate pair"),
        ({"question": "w1" * 5_000_000, "answer": "w2"}, "row 2: 'question' has 10000000 characters"),
        ({"question": "w1", "answer": "w2", "input": "x" * 10_000_000}, "row 2: 'input' has 10000000 characters"),
        ("w1", "row 2: expected an object with 'question', 'answer', got str"),
    ],
)
def test_a_broken_open_question_is_named(tmp_path, row, message):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "nq_open.json").write_text(json.dumps([{"question": "w1", "answer": "w2"}, row]))
    with pytest.raises(DataError, match=message):
        read_general_set("nq_open", tmp_path, rows=1, shots=1)


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "lambada.json").write_bytes(b'[{"context": "a",\n "continuation": "caf\xe9"}]')
    with pytest.raises(DataError, match=r"lambada\.json, line 2: not UTF-8 text"):
        read_general_set("lambada", tmp_path, rows=1, shots=0)


TEXT = st.text(max_size=3) | st.just("w1") | st.just("half \ud800")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(TEXT, x, max_size=2),
    max_leaves=4,
)
KINDS = {
    "lambada": ({"context", "continuation"}, lambda q: (q["context"], [f" {q['continuation']}"])),
    "nq_open": ({"question", "answer"}, lambda q: (f"Q: {q['question']}?\nA:", [f" {a}" for a in listed(q["answer"])])),
    "bbh/navigate": ({"input", "target"}, lambda q: (f"Q: {q['input']}\nA:", [f" {a}" for a in listed(q["target"])])),
    "instructions_alpaca": ({"instruction", "output"}, lambda q: (q["instruction"], [q["output"]])),
}


def listed(value):
    return value if isinstance(value, list) else [value]


def is_text(value):
    return isinstance(value, str) and value.strip() != "" and "\ud800" not in value


def is_sound(row, name):
    """What a row must be, said once more: texts, and several of them only where several answers may be right."""
    needed, _ = KINDS[name]
    if not isinstance(row, dict) or not needed <= set(row):
        return False
    several = ("answer", "target")
    if not all(is_text(text) for key in needed for text in (listed(row[key]) or [""] if key in several else [row[key]])):
        return False
    return name.startswith("bbh") or "input" not in row or row["input"] == "" or is_text(row["input"])


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_an_open_set_holds_it_is_read_whole_or_refused(tmp_path_factory, name, data):
    needed, expected = KINDS[name]
    fields = dict.fromkeys(needed, TEXT | st.lists(TEXT, max_size=2) | JSON)
    optional = {"input": TEXT | JSON} if "input" not in needed else {}
    rows = data.draw(st.lists(st.fixed_dictionaries(fields, optional=optional) | JSON, max_size=3))
    path = tmp_path_factory.getbasetemp() / "open.json"
    path.write_text(json.dumps(rows))
    if not rows or not all(is_sound(row, name) for row in rows):
        with pytest.raises(DataError, match=r"open\.json"):
            read_open_questions(path, open_kind(name))
        return
    for question, row in zip(read_open_questions(path, open_kind(name)), rows, strict=True):
        prompt, answers = expected(row)
        assert prompt in question.prompt
        assert list(question.answers) == answers


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60))
def test_whatever_bytes_an_open_set_is_it_is_refused_by_name(tmp_path_factory, name, content):
    path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bytes\.json"):
        read_open_questions(path, open_kind(name))


def test_questions_that_lost_tokens_are_counted_and_told_once_a_set(data, caplog):
    _tell.cache_clear()
    model, tokenizer = tiny.model("llama", max_position_embeddings=8), tiny.tokenizer()
    measured = read_general_set("openbookqa", data, rows=4, shots=2)
    for _ in range(2):
        measured.measure(model, tokenizer)
    # A beginning, two solved questions of three or four words each, the question's two words: nine at least.
    assert [record.getMessage() for record in caplog.records] == [
        "openbookqa, in_context: 4 of 4 questions are longer than the model's context of 8 tokens and lost some on their left"
    ]
