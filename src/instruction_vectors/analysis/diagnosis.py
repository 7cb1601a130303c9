"""What happened to a fine-tuned model, task by task, and what to do about it.

Four questions in turn: what got worse, where, gone or only covered, what to do (Jiang et al. 2406.12227, Figures 2-6).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.examination import Examination
from instruction_vectors.analysis.outside import LmEval
from instruction_vectors.analysis.pair import check_files, open_pair
from instruction_vectors.analysis.plan import LAST, Plan, Subject, name_among, subjects_of
from instruction_vectors.analysis.result import Diagnosis
from instruction_vectors.analysis.stages import START, Curves, StageScore, stages_in
from instruction_vectors.progress import track
from instruction_vectors.tasks import load_task
from instruction_vectors.tasks.task import Task


def diagnose(
    base: Any,
    tuned: Any,
    tasks: Sequence[str | Path | Task] | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    last: str | Path | Task | None = None,
    trained: Sequence[str | Path | Task] = (),
    lm_eval: LmEval | None = None,
    plan: Plan | None = None,
    dtype: torch.dtype = torch.float32,
) -> Diagnosis:
    """Say what a fine-tune did to each task: intact, suppressed, lost, or inconclusive (after Jiang et al. 2406.12227).

    Args:
        base: a short name, folder, hub id or model; None where `tuned` is a PEFT model.
        tuned: its child: the same kinds, or the folder of an adapter (the base is then in memory once); or a folder of
            numbered stages of either kind: the last is diagnosed, and every one measured for the curves.
        tasks: names of shipped tasks, `.jsonl` files, or tasks; two or more. Default: the shipped with a knowledge form.
        tokenizer: needed for models in memory.
        last: the task the model was last trained on, whose vector is then tried subtracted. Default: the last of `trained`.
        trained: the tasks it was trained on, in order: they are measured too and told apart from the untouched ones.
        lm_eval: lm-eval tasks to run on both models; they get no verdict.
        plan: how much is measured.
        dtype: of the weights, where the base is opened here.

    Raises:
        ModelError: a model cannot be opened, or the two do not belong together.
        DataError: an unknown, malformed or too small task.
    """
    plan = plan or Plan()
    learnt = [_loaded(task) for task in trained]
    subjects = subjects_of(tasks, plan, learnt)
    last = last or (learnt[-1] if learnt else None)
    extra = {} if last is None else {LAST: Subject.of(_loaded(last), plan)}
    names = [name for task in learnt if (name := name_among(task, subjects))]  # all of them are
    stages = stages_in(tuned, names)
    pair = open_pair(base, [*stages.values()][-1] if stages else tuned, tokenizer=tokenizer, dtype=dtype)
    with pair.base() as model:
        for folder in [*stages.values()][:-1]:  # those before the last are opened after hours
            check_files(model, pair.tokenizer, folder)
    with track("Diagnosis", 9 * len(subjects), "step") as advance:
        examination = Examination(pair, subjects, extra, plan, _counter(advance), lm_eval)
        found = examination.result()
    return replace(found, stages=_curves(examination, stages, names)) if stages else found


def _curves(examination: Examination, stages: Mapping[str, Path], trained: Sequence[str]) -> list[StageScore]:
    tools, last = examination.tools, [*stages][-1]
    curves = Curves(examination.subjects, trained, examination.heads, tools.base, examination.plan)
    curves.add(START, examination.base_forms, tools.base)
    curves.measure({name: folder for name, folder in stages.items() if name != last}, examination.pair)
    curves.add(last, examination.tuned_forms, tools.tuned)
    return curves.scores


def _loaded(task: str | Path | Task) -> Task:
    return task if isinstance(task, Task) else load_task(task)


def _counter(advance: Callable[[int], None]) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(done)

    return step
