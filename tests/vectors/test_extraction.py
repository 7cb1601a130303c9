"""Means over prompts are plain means, and the heads with the largest effects are taken."""

import json
import logging
import weakref

import pytest
import tiny
import torch
import transformers
from accelerate import dispatch_model

from instruction_vectors import Example, Task, extract, mean_head_outputs, top_heads
from instruction_vectors.errors import DataError, HookError, VectorError
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.loading import model_fingerprint, tokenizer_fingerprint
from instruction_vectors.tasks.prompts import PLAIN, check_answers
from instruction_vectors.vectors.extraction import head_effects, provenance, told_means
from instruction_vectors.vectors.prompting import counterfactuals, demonstrations
from instruction_vectors.vectors.universal import extract_all

PROMPTS = [*tiny.PROMPTS, tiny.PROMPTS[1], tiny.text(3, 7), tiny.PROMPTS[0]]


def task(rows=12) -> Task:
    return Task(name="next", instructions=("w0 w1",), rows=tuple(Example(f"w{i}", f"w{i + 1}") for i in range(2, 2 + rows)))


@torch.no_grad()
def plain_means(causal_lm, family, tokenizer, prompts) -> torch.Tensor:
    seen = []
    handles = [o.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1])) for o in tiny.o_projs(causal_lm, family)]
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        causal_lm(input_ids=ids, attention_mask=torch.ones_like(ids))
    for handle in handles:
        handle.remove()
    return torch.stack(seen).view(len(prompts), tiny.LAYERS, tiny.HEADS, -1).mean(0)


@pytest.mark.parametrize(("family", "attention"), tiny.GRID)
def test_mean_head_outputs_are_means_over_separate_forwards(family, attention, tok):
    causal_lm = tiny.shared(family, attention)
    expected = plain_means(causal_lm, family, tok, PROMPTS)
    found = mean_head_outputs(causal_lm, tok, PROMPTS)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (expected - plain_means(causal_lm, family, tok, PROMPTS[:3])).abs().max() > 1e-2  # duplicates count


@pytest.mark.parametrize("max_nodes", [1, 9, 17, 10_000])
def test_tokens_a_forward_change_nothing(max_nodes, tok):
    causal_lm = tiny.shared("llama", "sdpa")
    found = mean_head_outputs(causal_lm, tok, PROMPTS, max_nodes=max_nodes)
    torch.testing.assert_close(found, plain_means(causal_lm, "llama", tok, PROMPTS), atol=1e-12, rtol=0)


def test_the_order_of_prompts_changes_nothing(tok):
    causal_lm = tiny.shared("llama", "sdpa")
    one, other = (mean_head_outputs(causal_lm, tok, prompts) for prompts in (PROMPTS, PROMPTS[::-1]))
    torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_no_forward_holds_more_tokens_than_allowed(tok):
    causal_lm, sizes = tiny.model("llama"), []
    causal_lm.model.register_forward_pre_hook(lambda _, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True)
    prompts = [tiny.text(*range(start, start + 6)) for start in range(24)]
    mean_head_outputs(causal_lm, tok, prompts, max_nodes=20)
    sizes = sizes[-12:]
    assert max(sizes) <= 20


ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory"),
    "cpu": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_prompts_that_memory_does_not_hold_together_go_in_smaller_parts_and_that_is_said_once(error, tok, caplog):
    causal_lm, failed = tiny.model("llama", attention="sdpa"), []
    expected = mean_head_outputs(causal_lm, tok, PROMPTS)

    def small(module, args, kwargs):
        assert not any(one() is not None for one in failed)  # nothing of a failed attempt may stay
        if args[0].shape[1] > 12:
            failed.append(weakref.ref(args[0]))
            raise error()

    handle = causal_lm.model.layers[-1].register_forward_pre_hook(small, with_kwargs=True)
    with caplog.at_level(logging.WARNING, "instruction_vectors"):
        torch.testing.assert_close(mean_head_outputs(causal_lm, tok, PROMPTS), expected, atol=1e-12, rtol=0)
        tries = len(failed)
        mean_head_outputs(causal_lm, tok, PROMPTS)
    assert len(failed) == tries > 0  # what fits is remembered
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("out of memory with 512 tokens at once: going on with ")
    longer = tiny.text(*range(13))
    with pytest.raises(RuntimeError, match="memory"):
        mean_head_outputs(causal_lm, tok, [longer])
    handle.remove()
    assert mean_head_outputs(causal_lm, tok, [longer]).isfinite().all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_only_prompts_that_are_answered_right_count_if_answers_are_given(family, tok):
    causal_lm = tiny.shared(family)
    likeliest = []
    for prompt in PROMPTS:
        with torch.no_grad():
            likeliest.append(int(causal_lm(input_ids=torch.tensor([tok(prompt)["input_ids"]])).logits[0, -1].argmax()))
    right = [tok.decode([token]) for token in likeliest]
    wrong = [tok.decode([4 + token % 2]) for token in likeliest]
    answers = [f" {(right if number % 2 else wrong)[number].strip()}" for number in range(len(PROMPTS))]
    kept = [prompt for number, prompt in enumerate(PROMPTS) if number % 2]
    found = mean_head_outputs(causal_lm, tok, PROMPTS, answers=answers, max_nodes=20)
    torch.testing.assert_close(found, plain_means(causal_lm, family, tok, kept), atol=1e-5, rtol=0)
    with pytest.raises(DataError, match=f"none of {len(PROMPTS)} prompts right"):
        mean_head_outputs(causal_lm, tok, PROMPTS, answers=[f" {word.strip()}" for word in wrong])


def test_answers_need_texts_one_each(tok):
    ids = [tok(prompt)["input_ids"] for prompt in PROMPTS]
    for prompts, answers in ((ids, [" w3"] * len(ids)), (PROMPTS, [" w3"])):
        with pytest.raises(DataError, match="one answer each"):
            mean_head_outputs(tiny.shared("llama"), tok, prompts, answers=answers)


def test_from_instructions_alone_there_are_no_examples_and_the_wordings_take_turns():
    several = Task(name="next", instructions=("w0 w1", "w9 w8"), rows=task().rows)
    built = demonstrations(several, prompts=4, shots=3, source="instructions")
    assert [text.split("\n")[0] for text, _ in built] == ["w0 w1", "w9 w8", "w0 w1", "w9 w8"]
    assert all(text.count("Input:") == 1 for text, _ in built)
    shown = demonstrations(several, prompts=4, shots=3)
    assert [answer for _, answer in built] == [answer for _, answer in shown]  # the same queries
    assert all(text.count("Input:") == 4 for text, _ in shown)


@pytest.mark.parametrize(
    ("corruption", "told", "examples"),
    [("shuffle_and_drop", False, 4), ("shuffle", True, 4), ("drop", False, 4), ("zero_shot", False, 1)],
)
def test_counterfactual_prompts_lack_what_the_corruption_names(corruption, told, examples):
    right = {row.input: row.output for row in task().rows}
    mixed = 0
    for text, answer in counterfactuals(task(), prompts=6, shots=3, corruption=corruption):
        assert text.startswith("w0 w1") == told
        pairs = [line.removeprefix("Input: ") for line in text.split("\n") if line.startswith("Input:")]
        outputs = [line.removeprefix("Output:").strip() for line in text.split("\n") if line.startswith("Output:")]
        assert len(pairs) == examples
        assert answer.strip() == right[pairs[-1]]
        mixed += sum(right[x] != y for x, y in zip(pairs[:-1], outputs[:-1], strict=True))
    assert (mixed > 0) == corruption.startswith("shuffle")


def test_a_vector_from_instructions_is_that_of_their_prompts_and_says_so(tok):
    causal_lm = tiny.shared("llama", "sdpa")
    heads = ((0, 1), (2, 2))
    vector = extract(causal_lm, tok, task(), heads=heads, prompts=4, source="instructions")
    told = [text for text, _ in demonstrations(task(), prompts=4, shots=0, source="instructions")]
    means = plain_means(causal_lm, "llama", tok, told)
    torch.testing.assert_close(vector.values, torch.stack([means[head] for head in heads]).float(), atol=1e-6, rtol=0)
    assert vector.metadata["source"] == "instructions"
    assert not vector.metadata["only_right"]
    shown = extract(causal_lm, tok, task(), heads=heads, prompts=4, shots=2)
    assert (shown.values - vector.values).abs().max() > 1e-3


def test_means_need_a_prompt(tok):
    with pytest.raises(DataError, match="at least one"):
        mean_head_outputs(tiny.shared("llama"), tok, [])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(value, tok):
    causal_lm = tiny.model("llama", attention="sdpa")
    with torch.no_grad():
        causal_lm.get_input_embeddings().weight[tok.convert_tokens_to_ids("w30")] = value
    sound, poisoned = PROMPTS[1], tiny.text(3, 7, 30, 9)
    assert mean_head_outputs(causal_lm, tok, [sound]).isfinite().all()
    with pytest.raises(HookError, match="not finite: the model produced NaN or infinite activations"):
        mean_head_outputs(causal_lm, tok, [sound, poisoned], max_nodes=1)
    with pytest.raises(HookError, match="not finite"):
        extract(causal_lm, tok, Task("w30", ("w30",), task().rows), heads=[(0, 1)], prompts=2, shots=1)


def test_a_vector_records_the_model_the_tokenizer_and_the_versions_it_was_made_with(tok):
    causal_lm = tiny.model("llama")
    causal_lm.config._commit_hash = "0123abcd"
    (universal,) = extract_all(causal_lm, tok, [task()], k=2, prompts=2, shots=1, effect_prompts=1).values()
    for vector in (extract(causal_lm, tok, task(), heads=[(0, 1)], prompts=2, shots=1), universal):
        found = vector.metadata
        assert found["shape"] == {"n_layers": 3, "n_heads": 4, "head_dim": 8, "hidden_size": 32, "vocab_size": 40}
        assert found["model_fingerprint"] == model_fingerprint(causal_lm)
        assert found["tokenizer_fingerprint"] == tokenizer_fingerprint(tiny.tokenizer())
        assert found["revision"] == "0123abcd"
        assert found["versions"]["torch"] == torch.__version__
        assert found["versions"]["transformers"] == transformers.__version__
        assert found["adds_writes"]
        vector.check_fits(causal_lm, tok)


def test_a_vector_records_what_its_heads_were_chosen_by(tok, tmp_path):
    causal_lm = tiny.shared("llama", "sdpa")
    sizes = {"shots": 1, "seed": 3}
    vector = extract(causal_lm, tok, task(), k=3, prompts=2, effect_prompts=2, **sizes)
    means = told_means(causal_lm, tok, task(), prompts=2, **sizes)
    effects = head_effects(causal_lm, tok, task(), means, prompts=2, **sizes).mean(0)
    scores = vector.metadata["scores"]
    assert scores == pytest.approx([float(effects[head]) for head in vector.heads])
    assert scores == sorted(scores, reverse=True)
    vector.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["scores"] == scores
    assert vector.first(causal_lm, 2).metadata["scores"] == scores[:2]
    screened = extract(causal_lm, tok, task(), k=3, prompts=2, effect_prompts=2, screen=3, **sizes)
    assert screened.metadata["scores"] == pytest.approx([float(effects[head]) for head in screened.heads], abs=1e-6)


def test_heads_that_were_given_have_no_scores(tok, tmp_path):
    extract(tiny.shared("llama"), tok, task(), heads=[(0, 1)], prompts=2, shots=1).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["scores"] is None


def test_provenance_of_a_model_without_a_revision_names_none(tok):
    found = provenance(tiny.shared("llama"), "0", task(), template=PLAIN, prompts=2, shots=1, seed=0, tokenizer=tok)
    assert "revision" not in found
    assert found["tokenizer_fingerprint"]


def test_top_heads_are_those_with_the_largest_mean_effect_largest_first():
    effects = torch.zeros(2, 3, 4)
    effects[:, 2, 1] = torch.tensor([0.1, 0.5])
    effects[:, 0, 3] = torch.tensor([0.4, 0.4])
    effects[:, 1, 1] = torch.tensor([-2.0, 2.1])
    assert top_heads(effects, 3) == ((0, 3), (2, 1), (1, 1))
    assert top_heads(effects[0], 2) == ((0, 3), (2, 1))


@pytest.mark.parametrize("k", [0, -1, 13])
def test_more_heads_than_there_are_cannot_be_taken(k, tok):
    with pytest.raises(VectorError, match="the model has 12"):
        top_heads(torch.zeros(3, 4), k)
    with pytest.raises(VectorError, match="the model has 12"):
        extract(tiny.shared("llama"), tok, task(), k=k)


def test_a_head_that_does_not_exist_is_refused(tok):
    for head in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(VectorError, match=r"does not exist: the model has 3×4"):
            extract(tiny.shared("llama"), tok, task(), heads=[head], prompts=2, shots=1)


@torch.no_grad()
def test_an_extracted_vector_holds_the_means_of_its_heads_and_their_sum_in_the_stream(tok):
    causal_lm = tiny.shared("llama")
    vector = extract(causal_lm, tok, task(), k=3, prompts=4, shots=2, effect_prompts=2, layer=1, seed=7)
    texts = [text for text, _ in demonstrations(task(), prompts=4, shots=2, seed=7)]
    means = mean_head_outputs(causal_lm, tok, texts)
    assert len(vector.heads) == 3
    torch.testing.assert_close(vector.values, torch.stack([means[head] for head in vector.heads]).float())
    anatomy = anatomy_of(causal_lm)
    weights = [anatomy.o_projs[layer].weight[:, head * 8 : head * 8 + 8] for layer, head in vector.heads]
    summed = sum(weight @ means[head] for weight, head in zip(weights, vector.heads, strict=True))
    torch.testing.assert_close(vector.summed, summed.float())
    assert vector.layer == 1
    assert vector.metadata["task"] == "next"
    assert vector.metadata["architecture"] == "LlamaForCausalLM"


def test_extraction_depends_on_the_seed_and_on_nothing_else(tok):
    draws = [extract(tiny.shared("llama"), tok, task(), k=2, prompts=3, shots=2, effect_prompts=2, seed=s) for s in (1, 1, 2)]
    assert draws[0].heads == draws[1].heads
    assert torch.equal(draws[0].values, draws[1].values)
    assert not torch.equal(draws[0].values, draws[2].values)


def test_demonstrations_never_show_their_own_query():
    for text, target in demonstrations(task(), prompts=12, shots=5, contexts=3):
        query = text.split("Input: ")[-1].split("\n")[0]
        assert f"Input: {query}\nOutput:{target}" not in text
        assert text.count("Output:") == 6


def test_an_answer_that_tokenises_to_nothing_is_named_with_its_row() -> None:
    class Forgetful:
        """A tokenizer that knows nothing of one word."""

        bos_token = eos_token = None

        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [ord(c) for c in text.replace(" ghost", "")]}

    task = Task("made", ("Do it.",), (Example("a", "b"), Example("c", "ghost")), sources=("made.jsonl",))
    with pytest.raises(DataError, match=r"'made' \(made.jsonl\), row 2: the answer ' ghost' tokenises to nothing"):
        check_answers(Forgetful(), task)


def test_a_model_some_of_whose_layers_are_on_the_disk_gives_the_same_vector_without_a_fingerprint(tok, tmp_path):
    homes = dict.fromkeys(("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    homes |= {"model.layers.1": "disk", "model.layers.2": "disk"}
    given = {"k": 2, "prompts": 4, "shots": 2, "effect_prompts": 2}
    whole = extract(tiny.shared("llama"), tok, task(), **given)
    offloaded = dispatch_model(tiny.model("llama"), homes, main_device="cpu", offload_dir=tmp_path)
    for vector in (extract(offloaded, tok, task(), **given), extract_all(offloaded, tok, [task()], **given)["next"]):
        assert vector.heads == whole.heads
        assert torch.allclose(vector.values, whole.values)
        assert "model_fingerprint" not in vector.metadata
        vector.check_fits(tiny.shared("llama"), tok)
