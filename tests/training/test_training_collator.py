"""Packed trees ask the same questions as padded batches: same loss, same gradients."""

import pytest
import tiny
import tiny_training
import torch
import torch.nn.functional as F
from tiny_training import padded, row

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.hooks import head_at
from instruction_vectors.models.tree import skips_what_is_hidden
from instruction_vectors.tasks.prompts import Prompt
from instruction_vectors.training.collator import TreeCollator, rows_of
from instruction_vectors.training.objectives import language_model_loss
from instruction_vectors.training.targets import Targets, model_inputs

SHARED_PROMPT = [row([1, 4, 5, 6], [7, 8]), row([1, 4, 5, 6], [7, 9, 10]), row([1, 4, 5, 6], [11])]
SHARED_INSTRUCTION = [row([1, 20, 21, 22, a], [a + 1] * n) for a, n in ((5, 1), (6, 3), (7, 2), (8, 4))]
PREFIX_OF_ANOTHER = [row([1, 4, 5], [6, 7]), row([1, 4, 5, 6, 7, 8], [9]), row([1, 4], [5, 6])]
TWICE_THE_SAME = [row([1, 4, 5], [6]), row([1, 4, 5], [6]), row([1, 9], [10, 11])]
TWO_ANSWERS = [
    {"input_ids": [1, 4, 5, 6, 7, 8, 9], "labels": [-100, -100, 5, 6, -100, -100, 9]},
    {"input_ids": [1, 4, 5, 6, 7, 10], "labels": [-100, -100, 5, 6, -100, 10]},
]
UNLABELLED_END = [{"input_ids": [1, 4, 5, 6, 7], "labels": [-100, -100, 5, 6, -100]}, row([1, 4], [9])]
FIRST_TOKEN_LABELLED = [{"input_ids": [1, 4, 5, 6], "labels": [1, -100, 5, 6]}, row([1, 4], [9])]
BATCHES = {
    "shared prompt": SHARED_PROMPT,
    "shared instruction": SHARED_INSTRUCTION,
    "prefix of another": PREFIX_OF_ANOTHER,
    "twice the same": TWICE_THE_SAME,
    "two answers": TWO_ANSWERS,
    "unlabelled end": UNLABELLED_END,
    "first token labelled": FIRST_TOKEN_LABELLED,
}


def ours(model, batch):
    targets = Targets.of(batch)
    with head_at(anatomy_of(model), targets.places):
        logits = model(**model_inputs(batch)).logits[0]
    return language_model_loss(logits[targets.rows], targets.tokens)


def by_hand(model, rows):
    batch = padded(rows)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100)


def gradients(model, loss):
    weights = [w for w in model.parameters() if w.requires_grad]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def check_equal(model, rows, tolerance):
    packed, expected = ours(model, TreeCollator(model)(rows)), by_hand(model, rows)
    assert packed.item() == pytest.approx(expected.item(), abs=tolerance)
    got, want = gradients(model, packed), gradients(model, expected)
    assert max(float(w.abs().max()) for w in want) > 0.01
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=0, atol=tolerance)


def test_batches_are_made_on_the_cpu_wherever_the_model_is():
    model = tiny.model("llama")
    collate = TreeCollator(model)
    here = collate(SHARED_INSTRUCTION)
    model.to("meta")
    assert not skips_what_is_hidden(anatomy_of(model))  # whatever was found while it was on a CPU
    away = collate(SHARED_INSTRUCTION)
    assert {value.device.type for value in away.values() if isinstance(value, torch.Tensor)} == {"cpu"}
    torch.testing.assert_close(away["input_ids"], here["input_ids"])


@pytest.mark.parametrize("name", BATCHES)
def test_a_packed_tree_has_the_loss_and_the_gradients_of_the_padded_batch(name):
    check_equal(tiny.model("gpt2"), BATCHES[name], 1e-9)


def test_long_rows_that_share_nothing_go_side_by_side_with_the_same_loss_and_gradients():
    rows = [row([1 + a, *(5 + (7 * a + i) % 20 for i in range(40))], [a + 1, a + 2]) for a in range(5)]
    model = tiny.model("gpt2")
    batch = TreeCollator(model)(rows)
    assert batch["input_ids"].shape == (5, 42)
    targets = Targets.of(batch)
    with head_at(anatomy_of(model), targets.places):
        loss = language_model_loss(model(**model_inputs(batch)).logits[0][targets.rows], targets.tokens)
    expected = by_hand(model, rows)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    for got, want in zip(gradients(model, loss), gradients(model, expected), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


def test_a_model_that_reads_no_trees_is_trained_on_padded_batches():
    model = tiny.model("bloom")
    batch = TreeCollator(model)([row([1, 4, 5], [6], "a"), row([1, 4], [7], "b")])
    assert batch["input_ids"].shape == (2, 4)
    assert batch["vector"] == ["a", "b"]
    assert batch["labels"].tolist() == [[-100, -100, -100, 6], [-100, -100, 7, -100]]


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral"])
def test_packing_holds_for_families_that_normalise_in_single_precision(family):
    rows = [row([1, 20, 21, 22, 23, 24, a], [a + 1] * n) for a, n in ((5, 1), (6, 3), (7, 2))]
    check_equal(tiny.model(family), rows, 1e-5)


@pytest.mark.parametrize("name", BATCHES)
def test_both_kinds_of_batch_have_the_loss_that_the_model_itself_computes(name):
    model, rows = tiny.model("llama"), BATCHES[name]
    batch = padded(rows)
    stock = model(**batch).loss.item()
    assert ours(model, batch).item() == pytest.approx(stock, rel=1e-6)
    assert ours(model, TreeCollator(model)(rows)).item() == pytest.approx(stock, rel=1e-6)


def test_what_rows_share_is_computed_once():
    model = tiny.model("llama")
    ids = TreeCollator(model)(SHARED_PROMPT)["input_ids"]
    # 4 prompt tokens, then 7, 9 (10 and the ends of the others predict nothing).
    assert sorted(ids[0].tolist()) == [1, 4, 5, 6, 7, 9]


def test_the_last_input_token_is_not_shared_between_vectors():
    model = tiny.model("llama")
    batch = TreeCollator(model)([row([1, 4, 5], [6], "a"), row([1, 4, 5], [7], "b"), row([1, 4, 5], [8], "b")])
    assert batch["input_ids"][0].tolist().count(5) == 2
    assert batch["input_ids"][0].tolist().count(4) == 1
    starts = {name: where.nonzero()[:, 1].tolist() for name, where in batch["answer_starts"].items()}
    assert {name: len(where) for name, where in starts.items()} == {"a": 1, "b": 1}
    assert starts["a"] != starts["b"]


@pytest.mark.parametrize("name", BATCHES)
def test_a_tree_and_a_padded_batch_name_the_same_last_input_tokens(name):
    model, rows = tiny.model("llama"), BATCHES[name]

    def before_each_answer(batch):
        """For every answer, the tokens up to where its vector goes in."""
        targets = Targets.of(batch)
        mask = batch["attention_mask"]
        found = []
        for b, place in targets.places.nonzero()[targets.answers].tolist():
            assert targets.starts[""][b, place]
            seen = mask[b, 0, place] == 0 if mask.dim() == 4 else torch.arange(mask.shape[1]) <= place
            found.append(batch["input_ids"][b, seen].tolist())
        return sorted(found)

    assert before_each_answer(TreeCollator(model)(rows)) == before_each_answer(padded(rows))


def test_every_answer_of_a_row_has_a_last_input_token():
    starts = Targets.of(padded(TWO_ANSWERS)).starts[""]
    assert starts.nonzero().tolist() == [[0, 1], [0, 5], [1, 1], [1, 4]]


def test_rows_that_answer_again_in_unlike_places_do_not_share_what_the_vector_changed():
    model = tiny.model("llama")
    once = {"input_ids": [1, 4, 5, 6, 7, 8], "labels": [-100, -100, 5, -100, -100, 8]}
    other = {"input_ids": [1, 4, 5, 6, 7, 8], "labels": [-100, -100, 5, -100, 7, 8]}
    batch = TreeCollator(model)([once, other])
    where = batch["answer_starts"][""][0].nonzero().flatten().tolist()
    assert len(where) == 4
    assert sorted(batch["input_ids"][0, where].tolist()) == [4, 4, 6, 7]


def test_a_padded_batch_without_labels_is_refused():
    with pytest.raises(TrainingError, match="every label of a batch is masked"):
        Targets.of(padded([{"input_ids": [1, 4], "labels": [-100, -100]}]))


@pytest.mark.parametrize("labels", [[-100, -100, -100], [1, -100, -100]])
def test_a_packed_row_without_labels_is_refused_and_does_not_end_the_epoch(labels):
    model = tiny.model("llama")
    with pytest.raises(TrainingError, match="every label of a batch is masked"):
        TreeCollator(model)([row([1, 4], [5]), {"input_ids": [1, 4, 5], "labels": labels}])


def test_rows_are_made_from_prompts_with_the_answer_and_its_end_labelled():
    tokenizer = tiny.tokenizer()
    (made,) = rows_of(tokenizer, [Prompt("w0 w1", " w2 w3")], end=" </s>", vector="mine")
    words = tokenizer.convert_tokens_to_ids(["<s>", "w0", "w1", "w2", "w3", "</s>"])
    assert made == {"input_ids": words, "labels": [-100] * 3 + words[3:], "vector": "mine"}


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_that_are_padded_already_are_read_without_their_padding(side):
    model, rows = tiny_training.adapted(), tiny_training.distinct_rows(4)
    given = []
    for number, real in enumerate(rows):
        gap = [0] * number
        fields = {"input_ids": gap, "labels": [-100] * number, "attention_mask": gap}
        whole = real | {"attention_mask": [1] * len(real["input_ids"])}
        given.append(
            whole | {name: fill + whole[name] if side == "left" else whole[name] + fill for name, fill in fields.items()}
        )
    want, got = TreeCollator(model)(rows), TreeCollator(model)(given)
    for name in ("input_ids", "labels", "target_places"):
        assert torch.equal(got[name], want[name])
