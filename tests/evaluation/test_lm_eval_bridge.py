"""lm-eval tasks from local files on a live model: results equal lm-eval's own model, with a vector or an adapter on."""

import peft
import pytest
import tiny
import torch
from tiny_lm_eval import ROWS, TASKS

from instruction_vectors.errors import IVError
from instruction_vectors.evaluation.scoring import score
from instruction_vectors.vectors.vector import InstructionVector

bridge = pytest.importorskip("instruction_vectors.evaluation.lm_eval_bridge")


@pytest.fixture
def pair():
    return tiny.model("llama", attention="sdpa"), tiny.tokenizer()


def vector_of(model):
    means = torch.randn(tiny.LAYERS, tiny.HEADS, tiny.HEAD_DIM, generator=torch.Generator().manual_seed(0)) * 5
    return InstructionVector.from_means(model, means, ((0, 1), (2, 3)))


def test_results_and_rows_equal_those_of_lm_evals_own_model(lm_eval_tasks, pair):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = pair
    ours = bridge.run_lm_eval(model, tokenizer, TASKS, include_path=lm_eval_tasks)
    manager = TaskManager(include_path=str(lm_eval_tasks), include_defaults=False)
    theirs = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2), tasks=TASKS, task_manager=manager, bootstrap_iters=0
    )
    for task in TASKS:
        assert {k: v for k, v in ours.results["results"][task].items() if "stderr" not in k and k != "name"} == {
            k: v for k, v in theirs["results"][task].items() if "stderr" not in k and k != "name"
        }
    for row, sample in zip(ours.rows["tiny_choice"], theirs["samples"]["tiny_choice"], strict=True):
        scores = [response[0] for response in sample["filtered_resps"]]
        assert row.row == sample["doc_id"]
        assert row.scores == pytest.approx(scores, rel=1e-6)
        assert row.prediction == max(range(3), key=scores.__getitem__)
        assert (row.target, row.metrics["acc"]) == (sample["target"], sample["acc"])
    assert [row.prediction for row in ours.rows["tiny_written"]] == [
        s["filtered_resps"][0] for s in theirs["samples"]["tiny_written"]
    ]


def test_a_vector_goes_to_the_last_token_of_each_context(lm_eval_tasks, pair):
    model, tokenizer = pair
    vector = vector_of(model)

    def edit(where):
        return vector.applied(model, positions=where)

    run = bridge.run_lm_eval(model, tokenizer, TASKS, include_path=lm_eval_tasks, edit=edit)
    prompts, answers = [row["question"] for row in ROWS], [[f" {o}" for o in row["options"]] for row in ROWS]
    expected = [[one.logprob for one in row] for row in score(model, tokenizer, prompts, answers, edit=edit)]
    got = [row.scores for row in run.rows["tiny_choice"]]
    torch.testing.assert_close(torch.tensor(got), torch.tensor(expected))
    plain = bridge.run_lm_eval(model, tokenizer, TASKS, include_path=lm_eval_tasks)
    assert [row.scores for row in plain.rows["tiny_choice"]] != got
    assert [r.prediction for r in plain.rows["tiny_written"]] != [r.prediction for r in run.rows["tiny_written"]]


def test_an_adapter_that_is_on_counts_and_shots_are_given(lm_eval_tasks, pair):
    model, tokenizer = pair
    before = bridge.run_lm_eval(model, tokenizer, ["tiny_choice"], include_path=lm_eval_tasks)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    after = bridge.run_lm_eval(adapted, tokenizer, ["tiny_choice"], include_path=lm_eval_tasks)
    assert [row.scores for row in before.rows["tiny_choice"]] != [row.scores for row in after.rows["tiny_choice"]]
    with adapted.disable_adapter():
        off = bridge.run_lm_eval(adapted, tokenizer, ["tiny_choice"], include_path=lm_eval_tasks)
    assert [r.scores for r in off.rows["tiny_choice"]] == [pytest.approx(r.scores) for r in before.rows["tiny_choice"]]


def test_first_rows_only(lm_eval_tasks, pair):
    run = bridge.run_lm_eval(*pair, ["tiny_choice"], include_path=lm_eval_tasks, limit=2)
    assert [row.row for row in run.rows["tiny_choice"]] == [0, 1]


def test_empty_contexts_and_whole_texts_as_lm_evals_own_model_scores_them(pair):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, _ = pair
    for tokenizer in (tiny.tokenizer(), tiny.tokenizer(bos=False)):
        ours, theirs = bridge.LiveLM(model, tokenizer), HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
        pairs = [Instance("loglikelihood", {}, (c, t), 0) for c, t in (("", "w3 w4"), ("w1 ", "w3"), ("w1", " w3"))]
        assert ours.loglikelihood(pairs, disable_tqdm=True) == [
            (pytest.approx(logprob), greedy) for logprob, greedy in theirs.loglikelihood(pairs, disable_tqdm=True)
        ]
        whole = [Instance("loglikelihood_rolling", {}, (tiny.text(*range(n)),), 0) for n in (3, 30)]
        ours.max_length = theirs._max_length = 16
        assert ours.loglikelihood_rolling(whole) == pytest.approx(theirs.loglikelihood_rolling(whole, disable_tqdm=True))


def test_what_cannot_be_done_is_refused(lm_eval_tasks, pair):
    from lm_eval.api.instance import Instance

    model, tokenizer = pair
    live = bridge.LiveLM(model, tokenizer, edit=lambda where: vector_of(model).applied(model, positions=where))
    with pytest.raises(IVError, match="perplexity"):
        live.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("w1",), 0)])
    with pytest.raises(IVError, match="greedy"):
        live.generate_until([Instance("generate_until", {}, ("w1", {"until": [], "do_sample": True, "temperature": 1.0}), 0)])
    with pytest.raises(IVError, match="128"):
        live.generate_until([Instance("generate_until", {}, ("w1", {"until": [], "max_gen_toks": 200}), 0)])
