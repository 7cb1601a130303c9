"""What happened to a fine-tuned model, task by task, and what to do about it.

Four questions in turn: what got worse, where, gone or only covered, what to do (Jiang et al. 2406.12227, Figures 2-6).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.examination import Examination
from instruction_vectors.analysis.pair import open_pair
from instruction_vectors.analysis.plan import Plan, Subject, subjects_of
from instruction_vectors.analysis.result import Diagnosis
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
    plan: Plan | None = None,
) -> Diagnosis:
    """Say what a fine-tune did to each task: intact, suppressed, lost, or inconclusive.

    Args:
        base: a short name, folder, hub id or model; None where `tuned` is a PEFT model.
        tuned: its child: the same kinds, or the folder of an adapter (the base is then in memory once).
        tasks: names of shipped tasks, `.jsonl` files, or tasks; two or more. Default: the shipped with a knowledge form.
        tokenizer: needed for models in memory.
        last: the task the model was last trained on, whose vector is then tried subtracted.
        plan: how much is measured.

    Raises:
        ModelError: a model cannot be opened, or the two do not belong together.
        DataError: an unknown, malformed or too small task.
    """
    plan = plan or Plan()
    subjects = subjects_of(tasks, plan)
    extra = {} if last is None else {"last": Subject.of(last if isinstance(last, Task) else load_task(last), plan)}
    pair = open_pair(base, tuned, tokenizer=tokenizer)
    with track("Diagnosis", 9 * len(subjects), "step") as advance:
        return Examination(pair, subjects, extra, plan, _counter(advance)).result()


def _counter(advance: Callable[[int], None]) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(done)

    return step
