"""Rows of a user's file: what is labelled is what the assistant says, and a bad row is named by its line."""

import json

import pytest
import tiny

from instruction_vectors.errors import DataError, TrainingError
from instruction_vectors.training.rows import encode_rows, read_rows

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}w30 {{ m.content }} </s> "
    "{% else %}{{ 'w31' if m.role == 'user' else 'w32' }} {{ m.content }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}w30{% endif %}"
)
FORGETS = TEMPLATE.replace("w30 {{ m.content }}", "w30 {{ 'w35 ' if loop.last }}{{ m.content }}")
"""Writes a word before the last answer only, as templates of reasoning models do."""


def tokenizer(template=TEMPLATE):
    made = tiny.tokenizer(bos=False)
    made.chat_template = template
    return made


def turns(*texts, system=None):
    chat = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *chat] if system else chat


def ids(text):
    return tiny.tokenizer(bos=False)(text)["input_ids"]


def labelled(row):
    """The labelled runs of a row, each with the text before it."""
    runs, before = [], []
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        if label == -100:
            before.append(token)
        elif before:
            runs.append((before, [label]))
            before = []
        else:
            runs[-1][1].append(label)
    return runs


def encoded(row, made=None, max_length=99):
    return encode_rows(made or tokenizer(), [("here", row)], max_length)


def test_of_a_prompt_and_completion_the_completion_and_the_end_are_labelled():
    made = tokenizer()
    made.eos_token = " </s>"  # the tokenizer of words needs the blank
    ((row,), dropped) = encoded({"prompt": "w1 w2", "completion": " w3", "instruction": "Do.", "note": "x"}, made)
    assert labelled(row) == [(ids("w1 w2"), ids("w3 </s>"))]
    assert row["instruction"] == "Do."
    assert set(row) == {"input_ids", "labels", "instruction"}
    assert dropped == 0


def test_of_a_chat_every_turn_of_the_assistant_is_labelled_and_nothing_else():
    chat = turns("w1", "w2 w3", "w4", "w5", system="w6")
    ((row,), _) = encoded({"messages": chat})
    assert labelled(row) == [(ids("w32 w6 w31 w1 w30"), ids("w2 w3 </s>")), (ids("w31 w4 w30"), ids("w5 </s>"))]
    assert row["messages"] == chat


def test_where_a_template_rewrites_earlier_turns_each_answer_is_a_row_as_the_model_would_read_it():
    rows, _ = encoded({"messages": turns("w1", "w2", "w4", "w5")}, tokenizer(FORGETS))
    assert [labelled(row) for row in rows] == [
        [(ids("w31 w1 w30"), ids("w35 w2 </s>"))],
        [(ids("w31 w1 w30 w2 </s> w31 w4 w30"), ids("w35 w5 </s>"))],
    ]


def test_long_rows_are_cut_and_those_without_an_answer_left_are_counted():
    rows = [("a", {"messages": turns("w1", "w2 w3 w4")}), ("b", {"messages": turns("w1 w1 w1 w1 w1", "w2")})]
    kept, dropped = encode_rows(tokenizer(), rows, 5)
    assert [len(row["input_ids"]) for row in kept] == [5]
    assert labelled(kept[0]) == [(ids("w31 w1 w30"), ids("w2 w3"))]
    assert dropped == 1
    with pytest.raises(TrainingError, match="no row has an answer within its first 3 tokens"):
        encode_rows(tokenizer(), rows, 3)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "here: the model's tokenizer has no chat template"),
        ("{{ raise_exception('no system turn here') }}", "here: the model's chat template refuses the chat .no system turn here"),
        (TEMPLATE.replace("%}w30{% endif", "%}w33{% endif"), "here: the model's chat template writes a prompt otherwise"),
    ],
)
def test_a_chat_that_cannot_be_written_is_refused_with_its_place(template, message):
    with pytest.raises(DataError, match=message):
        encoded({"messages": turns("w1", "w2")}, tokenizer(template))


GOOD = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected an object"),
        ({"prompt": "a"}, "line 2: no 'completion'; a row has"),
        ({"text": "a"}, "line 2: no 'prompt'; a row has"),
        ({"prompt": "a", "completion": "  "}, "line 2: 'completion' must be text that is not empty"),
        ({"prompt": ["a"], "completion": "b"}, "line 2: 'prompt' must be text that is not empty"),
        ({**GOOD, "instruction": 3}, "line 2: 'instruction' must be text, got int"),
        ({**GOOD, "vector": None}, "line 2: 'vector' must be text, got NoneType"),
        ({"messages": "hello"}, "line 2: 'messages' must be a list of turns, got str"),
        ({"messages": [{"role": "user"}]}, "line 2, turn 1: expected a 'role'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "line 2, turn 1: expected a 'role'"),
        ({"messages": turns("a")}, "line 2: no turn of the assistant answers anything"),
    ],
    ids=str,
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, row, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + (row if isinstance(row, str) else json.dumps(row)))
    with pytest.raises(DataError, match=f"rows.jsonl, {message}"):
        read_rows(path)


def test_rows_come_with_their_places_and_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps({'messages': turns('a', 'b')})}\n")
    assert [place for place, _ in read_rows(path)] == [f"{path}, line 1", f"{path}, line 3"]
    path.write_text("\n")
    with pytest.raises(DataError, match="no rows; expected one object with 'prompt'"):
        read_rows(path)
