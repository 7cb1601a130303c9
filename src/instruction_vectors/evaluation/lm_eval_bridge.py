"""Any lm-evaluation-harness task on a live model: an adapter on, a vector in, prefixes shared (extra `lm-eval`).

Requests arrive as lm-eval makes them and tokens are split as lm-eval's own Hugging Face model (`HFLM`) splits them, so
results equal its results; only the forwards differ.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError, IVError, install_extra
from instruction_vectors.evaluation.generation import context_length, generate_tokens
from instruction_vectors.evaluation.multiple_choice import fit_left
from instruction_vectors.evaluation.scoring import TokenPair, score_tokens
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.tokens import encode

try:
    from lm_eval import simple_evaluate  # type: ignore[import-untyped]
    from lm_eval.api.model import TemplateLM  # type: ignore[import-untyped]
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs  # type: ignore[import-untyped]
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # type: ignore[import-untyped]
except ImportError as error:
    raise IVError(f"lm-eval tasks need the lm-eval extra; run {install_extra('lm-eval')}") from error

logger = logging.getLogger(__name__)

ContextEdit = Callable[[Any], AbstractContextManager[None]]
"""Makes an intervention at the last token of each context: `lambda where: vector.applied(model, positions=where)`, where
`where` is a bool tensor for log-likelihoods and `"prefill_end"` for generation."""


class LiveLM(TemplateLM):
    """A loaded model as lm-eval sees it.

    Log-likelihoods go through packed prefix trees (`evaluation.scoring`), texts through `evaluation.generation`. With
    `edit`, an intervention is made at the last token of each context.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        edit: ContextEdit | None = None,
        batch_size: int = 8,
        max_nodes: int = 512,
        max_new_tokens: int = 256,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.edit = model, tokenizer, edit
        self.batch_size, self.max_nodes, self.max_new_tokens = batch_size, max_nodes, max_new_tokens
        self._anatomy = anatomy_of(model)
        self._device = self._anatomy.device
        self.max_length = context_length(self._anatomy) or 2048

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is read as: the token that begins a text, or ends it where none begins it."""
        begins = self.tokenizer.bos_token_id
        return self.eot_token_id if begins is None else int(begins)

    @property
    def tokenizer_name(self) -> str:
        """What request caches are told apart by."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Ids of a text."""
        if add_special_tokens is None:
            return encode(self.tokenizer, string) if string else []
        return list(self.tokenizer(string, add_special_tokens=add_special_tokens)["input_ids"])

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str] | None, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        pairs: list[TokenPair] = []
        for number, (texts, context, continuation) in enumerate(requests):
            if not continuation:
                raise DataError(f"the continuation of {texts!r} tokenises to nothing")
            pairs.append(fit_left((context, continuation), self.max_length))
            groups.setdefault(tuple(pairs[-1][0]), []).append(number)
        if cut := sum(len(p) < len(r[1]) for (p, _), r in zip(pairs, requests, strict=True)):
            logger.warning("%d of %d requests are longer than the model's context and lost tokens on their left", cut, len(pairs))
        order = list(groups.values())
        scored = score_tokens(
            self.model,
            [[pairs[number] for number in group] for group in order],
            characters=[[0] * len(group) for group in order],
            edit=self.edit,
            max_nodes=self.max_nodes,
        )
        results: dict[int, tuple[float, bool]] = {}
        for group, scores in zip(order, scored, strict=True):
            for number, one in zip(group, scores, strict=True):
                results[number] = one.logprob, one.greedy
                if (texts := requests[number][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, results[number])
        return [results[number] for number in range(len(requests))]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, in windows of the model's context.

        Raises:
            IVError: with an intervention, since there is no context whose last token it could go to.
        """
        if self.edit is not None:
            raise IVError("a vector goes to the last token of a context; perplexity tasks (loglikelihood_rolling) have none")
        results = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text), prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            parts = [(None, *make_disjoint_window(window)) for window in windows]
            results.append(sum(logprob for logprob, _ in self._loglikelihood_tokens(parts)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), results[-1])
        return results

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy texts up to the requests' stop strings.

        Raises:
            IVError: a request that wants sampling or beams.
        """
        groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for number, request in enumerate(requests):
            wanted = dict(normalize_gen_kwargs(request.args[1], self.max_new_tokens))
            if wanted.get("do_sample") or wanted.get("num_beams", 1) != 1:
                raise IVError("only greedy decoding is supported: set do_sample to false and num_beams to 1 in the task")
            stop = handle_stop_sequences(wanted.get("until"), eos=self.tokenizer.decode(self.eot_token_id))
            groups.setdefault((tuple(stop), int(wanted["max_gen_toks"])), []).append(number)
        texts = [""] * len(requests)
        for (stop, new), members in groups.items():
            if new >= self.max_length:
                raise IVError(f"a task asks for {new} new tokens; the model's context is {self.max_length}")
            prompts = [self.tok_encode(requests[number].args[0])[-(self.max_length - new) :] for number in members]
            written = generate_tokens(
                self.model, self.tokenizer, prompts, max_new_tokens=new, stop=stop, batch_size=self.batch_size, edit=self.edit
            )  # fmt: skip
            for number, text in zip(members, written, strict=True):
                texts[number] = text
                self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return texts

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the tokenizer's own template writes it."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text


@dataclass(frozen=True, slots=True)
class Prediction:
    """What came out for one row of a task.

    Attributes:
        row: index of the row in the task's data.
        prediction: index of the likeliest choice by raw sum, or the text written (after the task's filter).
        target: the right answer as the task states it.
        scores: log-likelihood of each choice; empty for texts.
        metrics: the task's metrics for this row.
    """

    row: int
    prediction: int | str
    target: Any
    scores: tuple[float, ...]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class LmEvalRun:
    """lm-eval's own results, and each task's rows (by task, or by `task/filter` where it has several filters)."""

    results: dict[str, Any]
    rows: dict[str, list[Prediction]]


def run_lm_eval(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    include_path: str | Path | None = None,
    edit: ContextEdit | None = None,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    **options: Any,
) -> LmEvalRun:
    """Run lm-eval tasks on a live model.

    Args:
        model: a decoder-only causal language model; a PEFT model runs with its adapter on.
        tokenizer: its tokenizer.
        tasks: names of lm-eval tasks.
        include_path: folder of local task YAMLs. If it holds all of `tasks`, nothing else is looked up, no network needed.
        edit: an intervention at the last token of each context.
        limit: first rows of each task only.
        shots: few-shot examples, where the task's own number is not wanted.
        batch_size: prompts a forward in generation.
        options: further arguments of `lm_eval.simple_evaluate` (`apply_chat_template`, `fewshot_random_seed`, ...).

    Raises:
        IVError: an unknown task, or one that needs sampling.
    """
    manager = TaskManager(include_path=str(include_path), include_defaults=False) if include_path else None
    if manager is None or not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=str(include_path) if include_path else None)
    if unknown := sorted(set(tasks) - set(manager.all_tasks)):
        raise IVError(f"unknown lm-eval task {', '.join(unknown)}; put its YAML into a folder and give it as include_path")
    options = {"bootstrap_iters": 0, **options}
    live = LiveLM(model, tokenizer, edit=edit, batch_size=batch_size)
    results = simple_evaluate(
        live, tasks=list(tasks), task_manager=manager, limit=limit, num_fewshot=shots, log_samples=True, **options
    )
    rows: dict[str, list[Prediction]] = {}
    for task, samples in results["samples"].items():
        filters = {sample["filter"] for sample in samples}
        for sample in samples:
            name = task if len(filters) == 1 else f"{task}/{sample['filter']}"
            rows.setdefault(name, []).append(_prediction(sample))
    return LmEvalRun({key: value for key, value in results.items() if key != "samples"}, rows)


def _prediction(sample: Mapping[str, Any]) -> Prediction:
    answers = sample["filtered_resps"]
    metrics = {name: sample[name] for name in sample["metrics"]}
    if isinstance(answers[0], tuple | list) and not isinstance(answers[0][0], str):
        scores = tuple(float(answer[0]) for answer in answers)
        best = max(range(len(scores)), key=scores.__getitem__)
        return Prediction(sample["doc_id"], best, sample["target"], scores, metrics)
    text = answers[0] if isinstance(answers[0], str) else str(answers[0])
    return Prediction(sample["doc_id"], text, sample["target"], (), metrics)
