"""vector="auto": rows get a name and every name a vector, from what the rows really are when they train."""

import datasets
import pytest
import tiny
import tiny_training as kit
import tiny_world
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from instruction_vectors.errors import DataError, TrainingError
from instruction_vectors.training import automatic
from instruction_vectors.training.automatic import automatic_vectors, named, names_of, universal_heads
from instruction_vectors.training.targets import Targets
from instruction_vectors.training.views import original
from instruction_vectors.vectors.extraction import mean_head_outputs
from instruction_vectors.vectors.vector import InstructionVector


def rows(count=40):
    """Two instructions of half the rows each, alternating."""
    some = kit.distinct_rows(16)  # as many as there are words for
    return [{**some[i % 16], "instruction": ("First.", "Second.")[i % 2]} for i in range(count)]


def unnamed(some):
    return [{key: value for key, value in row.items() if key != "vector"} for row in some]


def prompt(row):
    return row["input_ids"][: next(i for i, label in enumerate(row["labels"]) if label != -100)]


@pytest.fixture(autouse=True)
def heads(request, monkeypatch):
    """Heads are found on real tasks, which the tokenizer of words cannot read."""
    if "finds" not in request.node.name:
        monkeypatch.setattr(automatic, "universal_heads", lambda model, tokenizer: kit.HEADS)


def by_hand(model, some):
    with original(model):
        means = mean_head_outputs(model, tiny.tokenizer(), [prompt(row) for row in some])
    return InstructionVector.from_means(model, means, kit.HEADS)


@pytest.mark.parametrize("kind", ["list", "dataset"])
def test_rows_with_one_instruction_share_a_vector_of_the_original_model(tmp_path, kind):
    data, model = unnamed(rows()), kit.adapted()
    given = datasets.Dataset.from_list(data) if kind == "dataset" else data
    found, vectors = automatic_vectors(model, tiny.tokenizer(), given)
    assert set(vectors) == {"", "First.", "Second."}
    assert [found[i]["vector"] for i in range(40)] == ["First.", "Second."] * 20
    for name, some in (("First.", data[::2]), ("Second.", data[1::2]), ("", data)):
        torch.testing.assert_close(vectors[name].values, by_hand(model, some).values)
    assert vectors["First."].cosine(vectors["Second."]) < 0.9999


def test_rows_of_small_groups_and_rows_that_say_nothing_are_universal():
    data = unnamed(rows(30))  # 15 of each, too few
    assert names_of(data) == [""] * 30
    tokens = datasets.Dataset.from_list([{key: row[key] for key in ("input_ids", "labels")} for row in data])
    found, vectors = automatic_vectors(kit.adapted(), tiny.tokenizer(), tokens)
    assert found["vector"][:] == [""] * 30
    assert set(vectors) == {""}


def test_rows_that_have_names_keep_them():
    data = [{**row, "vector": "ab"[i % 2] if i else None} for i, row in enumerate(kit.distinct_rows(6))]
    found, vectors = automatic_vectors(kit.adapted(), tiny.tokenizer(), datasets.Dataset.from_list(data))
    assert found["vector"][:] == ["", "b", "a", "b", "a", "b"]
    assert set(vectors) == {"", "a", "b"}


def test_training_with_auto_is_training_with_these_vectors(tmp_path):
    runs = []
    for auto in (True, False):
        model, data = kit.adapted(), unnamed(rows())
        vector = "auto"
        if not auto:
            data, vector = automatic_vectors(model, tiny.tokenizer(), data)
            data = [data[i] for i in range(40)]
        made = kit.trainer(model, tmp_path, data, vector=vector, processing_class=tiny.tokenizer(), num_train_epochs=1)
        made.train()
        runs.append(kit.losses(made))
    plain = kit.trainer(kit.adapted(), tmp_path, unnamed(rows()), num_train_epochs=1)
    plain.train()
    assert runs[0] == runs[1]
    assert max(abs(a - b) for a, b in zip(runs[0], kit.losses(plain), strict=True)) > 1e-2


def test_held_out_rows_have_the_names_of_training_rows_or_none(tmp_path):
    held = [*unnamed(rows(4)), {**unnamed(rows(1))[0], "instruction": "Never seen."}]
    made = kit.trainer(
        kit.adapted(), tmp_path, unnamed(rows()), vector="auto", processing_class=tiny.tokenizer(), eval_dataset=held
    )
    assert names_of(made.eval_dataset) == ["First.", "Second.", "First.", "Second.", ""]


TURNS = {"input_ids": [1, 4, 5, 6, 7, 8, 9], "labels": [-100, -100, 5, 6, -100, 8, 9]}


def test_in_a_chat_every_labelled_turn_is_steered_and_the_last_one_s_prompt_makes_the_vector():
    model = kit.adapted()
    found, vectors = automatic_vectors(model, tiny.tokenizer(), [TURNS])
    batch = kit.padded([found[0]]) | {"vector": (found[0]["vector"],)}
    assert Targets.of(batch).starts[""].nonzero().tolist() == [[0, 1], [0, 4]]
    with original(model):
        means = mean_head_outputs(model, tiny.tokenizer(), [[1, 4, 5, 6, 7]])
    torch.testing.assert_close(vectors[""].values, InstructionVector.from_means(model, means, kit.HEADS).values)


def test_of_a_packed_row_the_last_sample_s_own_prompt_counts():
    model = kit.adapted()
    packed = {"input_ids": [1, 4, 5, 1, 6, 7, 8], "labels": [-100, -100, 5, -100, -100, -100, 8], "seq_lengths": [3, 4]}
    _, vectors = automatic_vectors(model, tiny.tokenizer(), [packed])
    with original(model):
        means = mean_head_outputs(model, tiny.tokenizer(), [[1, 6, 7]])
    torch.testing.assert_close(vectors[""].values, InstructionVector.from_means(model, means, kit.HEADS).values)


def test_the_heads_are_those_with_the_largest_effect_in_the_mean_over_tasks_it_finds(tmp_path):
    folder = tiny_world.save(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    pair = universal_heads(model, tokenizer, ("present-past", "country-capital"), k=3)
    assert len(set(pair)) == 3
    assert set(universal_heads(model, tokenizer, ("antonym",), k=99)) == {(i, j) for i in range(3) for j in range(4)}


def stream():
    yield from ()


@pytest.mark.parametrize(
    ("data", "tokenizer", "message"),
    [
        (None, tiny.tokenizer(), "reads the training rows beforehand"),
        ([], tiny.tokenizer(), "reads the training rows beforehand"),
        (datasets.IterableDataset.from_generator(stream), tiny.tokenizer(), "no stream"),
        (kit.distinct_rows(2), None, "needs the tokenizer"),
    ],
    ids=["none", "empty", "stream", "no tokenizer"],
)
def test_what_auto_cannot_do_it_says(data, tokenizer, message):
    with pytest.raises(TrainingError, match=message):
        automatic_vectors(kit.adapted(), tokenizer, data)


def test_sharded_weights_a_row_without_prompt_and_another_word_are_refused(tmp_path):
    with torch.device("meta"):
        empty = torch.nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="needs whole weights"):
        automatic_vectors(empty, tiny.tokenizer(), kit.distinct_rows(2))
    with pytest.raises(DataError, match="row 2 has no prompt before its labels"):
        automatic_vectors(kit.adapted(), tiny.tokenizer(), [kit.row([1, 4], [5]), {"input_ids": [1, 4], "labels": [1, 4]}])
    with pytest.raises(TrainingError, match="or 'auto', got 'automatic'"):
        kit.trainer(kit.adapted(), tmp_path, kit.distinct_rows(2), vector="automatic")


def test_names_replace_a_column_that_was_there():
    data = datasets.Dataset.from_list([{"vector": None, "x": 1}, {"vector": "b", "x": 2}])
    assert named(data, ["", "b"])["vector"][:] == ["", "b"]
