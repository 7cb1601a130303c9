"""Scores from packed prefix trees, against separate forwards of each prompt and answer."""

from contextlib import nullcontext

import pytest
import tiny
import tiny_training as kit
import torch

from instruction_vectors.errors import DataError, HookError
from instruction_vectors.evaluation.scoring import Score, chance_corrected, copies_input, rank, score, score_prompts, score_tokens
from instruction_vectors.models.tokens import encode_pair
from instruction_vectors.tasks import load_task
from instruction_vectors.tasks.prompts import Prompt, draw_shots, instructed

PROMPTS = [
    tiny.text(1, 2, 3, 4),
    tiny.text(1, 2, 3, 9, 10),  # shares a prefix with the first
    tiny.text(1, 2),  # is a prefix of both
    tiny.text(20),
    tiny.text(1, 2, 3, 4),  # stands twice
    tiny.text(1, 2, 3, 4, 7),  # is the first with one of its answers
]
ANSWERS = [
    [" w7", " w7 w8", " w9 w8 w7"],
    [" w7 w8", " w5"],
    [" w3 w4 w7", " w3"],
    [" w0"],
    [" w7 w9", " w11"],
    [" w8", " w30 w31"],
]


@pytest.fixture(scope="module")
def model():
    return tiny.model("gpt2")  # computes in float64 throughout


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@torch.no_grad()
def alone(model, tokenizer, prompt, answer, vector=None):
    """log P(answer | prompt) and greedy choices of one forward over one text."""
    start = tokenizer(prompt)["input_ids"]
    whole = tokenizer(prompt + answer)["input_ids"]
    ids = torch.tensor([whole])
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[0, len(start) - 1] = True
    with vector.applied(model, positions=where) if vector else nullcontext():
        logits = model(input_ids=ids).logits[0, len(start) - 1 : -1]
    target = torch.tensor(whole[len(start) :])
    logprob = logits.log_softmax(-1).gather(1, target[:, None]).sum().item()
    return logprob, len(target), bool(logits[0].argmax() == target[0])


def check(model, tokenizer, scored, prompts=PROMPTS, answers=ANSWERS, vectors=None):
    for i, (prompt, options) in enumerate(zip(prompts, answers, strict=True)):
        assert len(scored[i]) == len(options)
        for got, answer in zip(scored[i], options, strict=True):
            logprob, tokens, first = alone(model, tokenizer, prompt, answer, vectors[i] if vectors else None)
            assert got.logprob == pytest.approx(logprob, abs=1e-9)
            assert (got.tokens, got.first_token, got.characters) == (tokens, first, len(answer.strip()))


@pytest.mark.parametrize("max_nodes", [3, 12, 512])
def test_scores_are_those_of_separate_forwards_however_the_work_is_cut(model, tokenizer, max_nodes):
    check(model, tokenizer, score(model, tokenizer, PROMPTS, ANSWERS, max_nodes=max_nodes))


def test_asking_for_exact_match_changes_no_score(model, tokenizer):
    check(model, tokenizer, score(model, tokenizer, PROMPTS, ANSWERS, exact=True))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_scores_hold_for_families_that_normalise_in_single_precision(tokenizer, family):
    model = tiny.model(family)
    for options, prompt, answers in zip(score(model, tokenizer, PROMPTS, ANSWERS), PROMPTS, ANSWERS, strict=True):
        expected = [alone(model, tokenizer, prompt, answer)[0] for answer in answers]
        assert [s.logprob for s in options] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_prompts_under_unlike_edits_score_as_if_each_had_run_alone(model, tokenizer, exact):
    one, two = kit.vector(model, 1), kit.vector(model, 2)
    vectors = [one, None, two, one, two, None]

    def edit_of(vector):
        return lambda where: vector.applied(model, positions=where)

    first, second = edit_of(one), edit_of(two)
    edits = [first, None, second, first, second, None]
    scored = score(model, tokenizer, PROMPTS, ANSWERS, edit=edits, exact=exact)
    check(model, tokenizer, scored, vectors=vectors)
    assert abs(scored[0][0].logprob - alone(model, tokenizer, PROMPTS[0], ANSWERS[0][0])[0]) > 0.01


def test_one_edit_serves_all_prompts(model, tokenizer):
    vector = kit.vector(model)
    scored = score(model, tokenizer, PROMPTS, ANSWERS, edit=lambda where: vector.applied(model, positions=where))
    check(model, tokenizer, scored, vectors=[vector] * len(PROMPTS))


def test_the_same_prompt_with_and_without_an_edit_keeps_the_two_apart(model, tokenizer):
    vector = kit.vector(model)
    prompts, answers = [PROMPTS[0]] * 2, [[" w7 w8"]] * 2
    scored = score(model, tokenizer, prompts, answers, edit=[None, lambda where: vector.applied(model, positions=where)])
    check(model, tokenizer, scored, prompts, answers, [None, vector])


def test_exact_is_true_for_what_greedy_decoding_writes_and_for_nothing_else(model, tokenizer):
    prompts, answers = PROMPTS[:4], []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        written = []
        for _ in range(3):  # plain argmax, no stopping and no generation settings
            written.append(int(model(input_ids=torch.tensor([ids[0].tolist() + written])).logits[0, -1].argmax()))
        words = tokenizer.convert_ids_to_tokens(written)
        wrong = "w0" if words[2] != "w0" else "w1"
        answers.append([f" {words[0]}", f" {words[0]} {words[1]} {words[2]}", f" {words[0]} {words[1]} {wrong}"])
    scored = score(model, tokenizer, prompts, answers, exact=True)
    assert [[s.exact for s in options] for options in scored] == [[True, True, False]] * 4
    assert all(s.first_token for options in scored for s in options)


def test_exact_may_be_asked_for_some_prompts_only(model, tokenizer):
    whole = score(model, tokenizer, PROMPTS, ANSWERS, exact=True)
    some = score(model, tokenizer, PROMPTS, ANSWERS, exact=[i % 2 == 0 for i in range(len(PROMPTS))])
    assert [[s.exact for s in row] for row in some] == [
        [s.exact if i % 2 == 0 else None for s in row] for i, row in enumerate(whole)
    ]
    with pytest.raises(DataError, match="6 prompts but 1 values of exact"):
        score(model, tokenizer, PROMPTS, ANSWERS, exact=[True])


def test_exact_is_left_open_when_not_asked_for(model, tokenizer):
    assert score(model, tokenizer, PROMPTS[:1], [[" w7"]])[0][0].exact is None


def test_exact_is_what_generate_writes_with_the_real_model(real):
    model, tokenizer = real
    task = load_task("present-past")
    shots = draw_shots(task, 5, seed="exact")
    rows = [row for row in task.rows if row not in shots][:3]
    prompts = [instructed(task, row, shots=shots) for row in rows] + [instructed(task, row) for row in rows]
    verdicts = [s.exact for s in score_prompts(model, tokenizer, prompts, exact=True)]
    for prompt, verdict in zip(prompts, verdicts, strict=True):
        ids = tokenizer(prompt.text, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=6, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        written = tokenizer.decode(out[0, ids["input_ids"].shape[1] :])
        follows = written[len(prompt.target) : len(prompt.target) + 1]
        assert verdict == (written.startswith(prompt.target) and not follows.isalnum()), (prompt.target, written)
    assert True in verdicts
    assert False in verdicts


def test_a_word_that_goes_on_is_not_the_answer(real):
    model, tokenizer = real
    prompt = "one two three four five six seven eight nine ten eleven twelve thirteen"
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=3, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    written = out[0, ids["input_ids"].shape[1] :].tolist()
    scored = score(model, tokenizer, [prompt] * 3, [[tokenizer.decode(written[:n])] for n in (1, 2, 3)], exact=True)
    for n, (one,) in enumerate(scored, start=1):
        text, longer = tokenizer.decode(written[:n]), tokenizer.decode(written[: n + 1])
        if n < 3:
            assert one.exact == (not longer[len(text) : len(text) + 1].isalnum())
        assert one.first_token


def test_an_answer_may_have_to_end_its_line(real):
    model, tokenizer = real
    prompts, answers = ["one two one two one two one", "A: two\nA: two\nA: two\nA:"], [[" two"], [" two"]]
    found = {ends: score(model, tokenizer, prompts, answers, exact=True, ends=ends) for ends in ("word", "line")}
    assert [row[0].exact for row in found["word"]] == [True, True]
    assert [row[0].exact for row in found["line"]] == [False, True]


def test_a_model_with_more_outputs_than_the_tokenizer_has_tokens_can_be_scored(tokenizer):
    model = tiny.model("gpt2", vocab_size=tiny.VOCABULARY + 8)
    with torch.no_grad():
        model.get_output_embeddings().weight[tiny.VOCABULARY :] *= 50
    scored = score(model, tokenizer, PROMPTS, ANSWERS, exact=True)
    assert not any(s.exact for options in scored for s in options)


def test_half_precision_models_are_scored_with_log_probabilities_in_single_precision(tokenizer):
    model = tiny.model("llama", dtype=torch.bfloat16)
    (options,) = score(model, tokenizer, [PROMPTS[0]], [[f" {word}" for word in (*tiny.WORDS, *tiny.SPECIAL)]])
    assert sum(torch.tensor(s.logprob).exp().item() for s in options) == pytest.approx(1.0, abs=1e-4)


def test_rounding_as_lm_eval_is_its_log_softmax_in_single_precision(tokenizer):
    model = tiny.model("llama")
    prompt, target = encode_pair(tokenizer, "w1 w2", " w3 w4")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
    rounded, exact = (x.log_softmax(-1)[range(len(target)), target] for x in (logits.float(), logits))
    found = {
        rounding: score_tokens(model, [[(prompt, target)]], characters=[[4]], rounding=rounding)[0][0].logprob
        for rounding in ("least", "lm_eval")
    }
    assert found["lm_eval"] == pytest.approx(rounded.double().sum().item(), abs=1e-14)
    assert found["least"] == pytest.approx(exact.sum().item(), abs=1e-12)
    assert found["lm_eval"] != found["least"]


def test_a_prompt_longer_than_the_context_is_refused_by_number(model, tokenizer):
    words = " ".join(["w1"] * 128)  # a beginning-of-sequence token stands before it
    fits = words.removeprefix("w1 ")
    assert len(score(model, tokenizer, [fits], [[" w2"]])) == 1
    with pytest.raises(DataError, match="prompt 2 takes 130 tokens with its longest answer, more than the model's 128"):
        score(model, tokenizer, ["w1", words], [[" w2"], [" w2"]])


@pytest.mark.parametrize(("exact", "longest"), [(False, (3, 4, 5, 6)), (True, (3, 4, 5))])
def test_an_answer_is_read_to_its_end_only_where_what_follows_it_is_asked_for(tokenizer, exact, longest):
    model = tiny.model("gpt2", n_positions=6)  # the prompt takes three tokens, the first of them `<s>`
    score(model, tokenizer, [tiny.text(1, 2)], [[f" {tiny.text(*longest)}"]], exact=exact)
    with pytest.raises(DataError, match="prompt 1 takes"):
        score(model, tokenizer, [tiny.text(1, 2)], [[f" {tiny.text(*longest, 9)}"]], exact=exact)


@pytest.mark.parametrize("family", ["llama", "bloom"])
@pytest.mark.parametrize("answers", [[" w7 w8"], [" w7 w8", " w5"]])
def test_a_vector_that_goes_in_at_the_last_token_read_is_no_way_to_score_answers(tokenizer, family, answers):
    model = tiny.model(family, dtype=torch.float32)
    vector = kit.vector(model)
    with pytest.raises(HookError, match="pass edit=lambda where"), vector.applied(model):
        score(model, tokenizer, [PROMPTS[0]], [answers])
    steered = score(model, tokenizer, [PROMPTS[0]], [answers], edit=lambda where: vector.applied(model, positions=where))
    assert steered != score(model, tokenizer, [PROMPTS[0]], [answers])
    # Of an answer of one token nothing beyond the prompt is read.
    with vector.applied(model):
        inside = score(model, tokenizer, [PROMPTS[0]], [[" w7"]])
    outside = score(model, tokenizer, [PROMPTS[0]], [[" w7"]], edit=lambda where: vector.applied(model, positions=where))
    assert inside[0][0].logprob == pytest.approx(outside[0][0].logprob, abs=1e-6)


def test_scoring_leaves_the_model_in_the_mode_it_found(model, tokenizer):
    for training in (True, False):
        model.train(training)
        score(model, tokenizer, PROMPTS[:1], ANSWERS[:1])
        assert model.training is training


def test_progress_ends_at_the_number_of_prompts(model, tokenizer):
    seen = []
    score(model, tokenizer, PROMPTS, ANSWERS, max_nodes=5, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(PROMPTS)
    assert len(seen) > 1


def a_score(logprob, tokens, characters):
    return Score(logprob, tokens, True, None, characters)


def test_ranking_by_sum_by_token_and_by_character_can_each_choose_another_option():
    options = [a_score(-2.0, 1, 2), a_score(-3.0, 3, 4), a_score(-4.0, 2, 9)]
    assert [rank(options, by) for by in ("sum", "token", "character")] == [0, 1, 2]


def test_an_answer_of_blanks_alone_has_a_length(real):
    model, tokenizer = real
    ((blank,),) = score(model, tokenizer, ["a"], [["\n"]])
    assert blank.normalised("character") == blank.logprob < 0


def test_of_equal_options_the_first_wins():
    assert rank([a_score(-1.0, 1, 1), a_score(-1.0, 1, 1)]) == 0


@pytest.mark.parametrize(
    ("accuracy", "chance", "corrected"), [(0.25, 0.25, 0.0), (1.0, 0.25, 1.0), (0.0, 0.5, -1.0), (0.7, 0.4, 0.5)]
)
def test_chance_is_taken_off(accuracy, chance, corrected):
    assert chance_corrected(accuracy, chance) == pytest.approx(corrected)


def test_a_choice_of_one_is_no_choice():
    with pytest.raises(DataError, match="at least two"):
        chance_corrected(1.0, 1.0)


def test_an_answer_that_tokenises_to_nothing_is_refused(model, tokenizer):
    for empty in ("", "  "):
        with pytest.raises(DataError, match="tokenises to nothing"):
            score(model, tokenizer, PROMPTS[:1], [[empty]])


def test_a_prompt_without_answers_is_refused(model, tokenizer):
    with pytest.raises(DataError, match="prompt 2 has no answers"):
        score(model, tokenizer, PROMPTS[:2], [[" w1"], []])


def test_unlike_numbers_of_prompts_answers_and_edits_are_refused(model, tokenizer):
    with pytest.raises(DataError, match="2 prompts but 1 lists of answers"):
        score(model, tokenizer, PROMPTS[:2], [[" w1"]])
    with pytest.raises(DataError, match="2 prompts but 1 edits"):
        score(model, tokenizer, PROMPTS[:2], [[" w1"], [" w2"]], edit=[None])


def test_nothing_to_score_gives_nothing(model, tokenizer):
    assert score(model, tokenizer, [], []) == []


def test_copying_is_noticed_by_the_first_token(tokenizer):
    prompt = Prompt("w1 w2 w3", " w2 w5")
    assert copies_input(tokenizer, prompt, "w2 w9")
    assert not copies_input(tokenizer, prompt, "w9 w2")


def test_the_answer_is_tokenised_as_it_continues_the_prompt(real):
    tokenizer = real[1]
    prompt, target = encode_pair(tokenizer, "The capital of France is", " Paris")
    assert prompt + target == tokenizer("The capital of France is Paris")["input_ids"]
