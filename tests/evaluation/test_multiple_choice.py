"""Question files, and predictions that equal lm-eval's own model row by row."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import tiny

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.multiple_choice import (
    Question,
    accuracy,
    asked,
    cleaned,
    fit_left,
    harness_pair,
    lettered,
    plain,
    read_questions,
    score_questions,
)

# No context with an answer's first tokens is another row's context: there lm-eval's cache of one-token answers reads the
# wrong place (0.4.13).
QUESTIONS = [
    Question(tiny.text(3, 7, 12, 9), (tiny.text(4), tiny.text(5, 6), tiny.text(5, 7, 8)), 1),
    Question(tiny.text(3, 7, 12), (tiny.text(10, 4), tiny.text(9)), 0),
    Question(tiny.text(20, 21) + " ", (tiny.text(1), tiny.text(2), tiny.text(3), tiny.text(2, 2)), 3),
]


def test_files_are_read(tmp_path):
    rows = [{"query": q.query, "choices": list(q.choices), "gold": q.gold, "id": 7} for q in QUESTIONS]
    (tmp_path / "q.json").write_text(json.dumps(rows))
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert read_questions(tmp_path / "q.json") == read_questions(tmp_path / "q.jsonl") == tuple(QUESTIONS)


GOOD = {"query": "q", "choices": ["a", "b"], "gold": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q", "gold": 0}, "no 'choices'"),
        ({**GOOD, "query": 3}, "'query' must be text, got int"),
        ({**GOOD, "query": " "}, "'query' is empty"),
        ({**GOOD, "query": "x" * 10_000_000}, "10000000 characters"),
        ({**GOOD, "query": "half \ud800"}, "'query' holds half of a surrogate pair"),
        ({**GOOD, "choices": ["a", "\udfff"]}, "'choice 2' holds half of a surrogate pair"),
        ({**GOOD, "choices": "ab"}, "'choices' must be a list of two or more"),
        ({**GOOD, "choices": ["a"]}, "'choices' must be a list of two or more"),
        ({**GOOD, "choices": ["a", None]}, "'choice 2' must be text, got NoneType"),
        ({**GOOD, "gold": 2}, "'gold' is 2, but there are 2 choices"),
        ({**GOOD, "gold": -1}, "'gold' is -1"),
        ({**GOOD, "gold": "0"}, "'gold' must be the index"),
        ({**GOOD, "gold": True}, "'gold' must be the index"),
        (["q"], "expected an object"),
    ],
)
def test_malformed_rows_are_named_by_file_and_row(tmp_path, row, message):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([GOOD, row]))
    with pytest.raises(DataError, match=r"q\.json, row 2: ") as caught:
        read_questions(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "no rows"),
        (b"{}", "JSON array"),
        (b"[{]", "not JSON"),
        (b'[\n{"query": "caf\xe9"}]', r"q\.json, line 2: not UTF-8 text \(byte 16 of the file\)"),
        (b"", "not JSON"),
        (b"[1", "not JSON"),
    ],
)
def test_malformed_files_are_named(tmp_path, content, message):
    path = tmp_path / "q.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_questions(path)
    assert "q.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_questions(tmp_path / "q.json")


TEXT = st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda x: st.lists(x, max_size=3), max_leaves=4
)
FIELDS = {"query": JSON | TEXT, "choices": JSON | st.lists(TEXT, max_size=4), "gold": JSON | st.integers(-1, 4)}
ROWS = st.lists(st.fixed_dictionaries({}, optional=FIELDS) | JSON, max_size=3)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_whatever_the_rows_are_they_are_read_whole_or_refused(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(rows))
    sound = bool(rows) and all(is_sound(row) for row in rows)
    if not sound:
        with pytest.raises(DataError, match=r"fuzz\.json"):
            read_questions(path)
    else:
        assert [question.gold for question in read_questions(path)] == [row["gold"] for row in rows]


def is_sound(row):
    """What a row must be, said once more."""
    if not isinstance(row, dict) or not {"query", "choices", "gold"} <= set(row) or not isinstance(row["choices"], list):
        return False
    texts = [row["query"], *row["choices"]]
    right = type(row["gold"]) is int and 0 <= row["gold"] < len(row["choices"])
    return right and len(texts) > 2 and all(isinstance(text, str) and text.strip() for text in texts)


def test_layouts():
    question = Question(" [header] A [title] B. [step] C", ("[substeps] x", "y"), 0)
    assert cleaned(question) == (" A. B. C", [" x", "y"])
    assert asked(question)[0].endswith("\nAnswer:")
    assert lettered(question) == ("Question: [header] A [title] B. [step] C\nA. [substeps] x\nB. y\nAnswer:", ["A", "B"])
    assert plain(question) == (question.query, question.choices)


def test_tokens_are_split_as_the_harness_splits_them():
    tokenizer = tiny.tokenizer()
    assert harness_pair(tokenizer, tiny.text(1, 2) + "  ", " w3") == (tokenizer(tiny.text(1, 2))["input_ids"], [7])
    with pytest.raises(DataError, match="tokenises to nothing"):
        harness_pair(tokenizer, "w1", "  ")


def test_long_questions_lose_tokens_on_their_left():
    assert fit_left(([1, 2, 3], [4, 5]), 4) == ([1, 2, 3], [4, 5])
    assert fit_left(([1, 2, 3], [4, 5]), 3) == ([2, 3], [4, 5])
    assert fit_left(([1, 2, 3], [4, 5]), None) == ([1, 2, 3], [4, 5])
    with pytest.raises(DataError, match="no room"):
        fit_left(([1, 2], [3, 4, 5]), 2)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("context", [128, 5])
def test_scores_equal_those_of_the_harness(bos, context):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    model, tokenizer = tiny.model("llama", max_position_embeddings=context), tiny.tokenizer(bos=bos)
    harness = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2)
    assert harness.max_length == context
    scored = score_questions(model, tokenizer, QUESTIONS)
    requests = [Instance("loglikelihood", {}, (q.query, f" {c}"), k) for q in QUESTIONS for k, c in enumerate(q.choices)]
    theirs = harness.loglikelihood(requests, disable_tqdm=True)
    ours = [(one.logprob, one.greedy) for row in scored for one in row]
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    torch.testing.assert_close([x for x, _ in ours], [x for x, _ in theirs], rtol=1e-6, atol=1e-6)


def test_accuracy_by_each_normalisation():
    model, tokenizer = tiny.model("llama"), tiny.tokenizer()
    scored = score_questions(model, tokenizer, QUESTIONS)
    for by, size in (("sum", lambda s: 1), ("token", lambda s: s.tokens), ("character", lambda s: s.characters)):
        picks = [max(range(len(row)), key=lambda k, row=row, size=size: row[k].logprob / size(row[k])) for row in scored]
        assert accuracy(QUESTIONS, scored, by) == [float(p == q.gold) for p, q in zip(picks, QUESTIONS, strict=True)]
    assert [one.characters for one in scored[0]] == [2, 5, 8]
