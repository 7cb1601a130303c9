"""Where an answer has ended, for tokenizers that write a full stop and a newline in one, or letters in parts."""

import copy

import pytest
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from instruction_vectors.errors import ModelError
from instruction_vectors.evaluation.endings import Endings
from instruction_vectors.evaluation.scoring import score
from instruction_vectors.models.tokens import encode_pair

TEXTS = ["", " cat", "s", ".", ".\n", "\n", ".,", "\ufffd", "\ufffda", " the", "ा", "<end>", "-", " cats", ".\n\n", ".s"]
TEXTS += [" \n", "\r\n", " a\n"]
SPECIAL = frozenset({11})


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("word", {"", " cat", ".", ".\n", "\n", ".,", " the", "<end>", "-", " cats", ".\n\n", ".s", " \n", "\r\n", " a\n"}),
        ("line", {"\n", "<end>", " \n", "\r\n"}),
    ],
)
def test_what_ends_a_word_and_what_a_line(ends, expected):
    endings = Endings(TEXTS, SPECIAL, ends)
    assert {text for token, text in enumerate(TEXTS) if endings.after(token)} == expected
    assert endings.after(len(TEXTS) + 3)  # of a model with more outputs than the tokenizer has tokens
    assert not endings.within(3, len(TEXTS) + 3)


@pytest.mark.parametrize(
    ("ends", "last", "expected"),
    [
        ("word", ".", {".\n", ".,", ".\n\n"}),
        ("line", ".", {".\n", ".\n\n"}),
        ("word", " cat", set()),
        ("word", "\ufffd", set()),
        ("line", "", set()),
    ],
)
def test_an_answer_may_end_within_the_token_that_follows_it(ends, last, expected):
    endings = Endings(TEXTS, SPECIAL, ends)
    token = TEXTS.index(last)
    assert {text for other, text in enumerate(TEXTS) if endings.within(token, other)} == expected


@pytest.fixture(scope="module")
def tokenizer():
    """Pieces as Llama 3 and Qwen 2 cut them: what is no letter takes the newlines after it along."""
    made = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(r" ?\p{L}+| ?[^\s\p{L}]+[\r\n]*|\s+"), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["x A: Washington D.C.\n", "A: Paris\n"] * 9,
        trainers.BpeTrainer(vocab_size=400, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<end>")


def taught(tokenizer, text):
    """A model that goes on with the next token of `text`, by heart."""
    ids = tokenizer(text)["input_ids"]
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=64)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = torch.tensor([ids])
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(("answer", "ends"), [(" Washington D.C.", "word"), (" Washington D.C.", "line"), (" Paris", "line")])
def test_a_whole_answer_is_found_whatever_its_last_token_takes_along(tokenizer, answer, ends):
    prompt = "x A:"
    model = taught(tokenizer, f"{prompt}{answer}\n")
    ((right, shorter, other),) = score(model, tokenizer, [prompt], [[answer, answer[:-1], f"{answer}s"]], exact=True, ends=ends)
    assert (right.exact, shorter.exact, other.exact) == (True, answer.endswith(".") and ends == "word", False)
    merged = encode_pair(tokenizer, prompt, f"{answer}\n")[1][: right.tokens] != encode_pair(tokenizer, prompt, answer)[1]
    assert (right.greedy, merged) == (not merged, answer.endswith("."))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_model_whose_logits_are_no_numbers_is_refused(tokenizer, broken):
    model = taught(tokenizer, "x A: Paris\n")
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = broken
    with pytest.raises(ModelError, match="the model's logits are not numbers"):
        score(model, tokenizer, ["x A:"], [[" Paris", " Rome"]])


def test_a_token_marked_special_without_a_role_ends_an_answer(tokenizer, monkeypatch):
    Endings.of(tokenizer, "line")
    marked = copy.deepcopy(tokenizer)
    marked.add_tokens([AddedToken("<|turn|>", special=True)])
    end = marked.convert_tokens_to_ids("<|turn|>")
    assert end not in marked.all_special_ids
    endings = Endings.of(marked, "line")
    assert end < len(endings.texts)
    assert endings.after(end)
    assert Endings(endings.texts, endings.special, "word").after(end)
    monkeypatch.setattr(type(marked), "added_tokens_decoder", lambda self: {})  # as Mistral's own tokenizer has it
    assert not Endings.of(marked, "line").after(end)
