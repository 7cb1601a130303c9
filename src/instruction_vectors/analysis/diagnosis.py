"""What happened to a fine-tuned model, task by task, and what to do about it.

Four questions in turn: what got worse, where, gone or only covered, what to do (Jiang et al. 2406.12227, Figures 2-6).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from instruction_vectors.analysis.conditions import ask, write_out
from instruction_vectors.analysis.extracted import Vectors, choose_scale, effects_of, heads_of, means_of, records_of
from instruction_vectors.analysis.ladder import (
    ADDED,
    GRID,
    PROMPTED,
    SUBTRACTED,
    WRITTEN_ADDED,
    WRITTEN_SUBTRACTED,
    Answers,
    Tools,
    dialled,
    rung_of,
)
from instruction_vectors.analysis.pair import Pair, open_pair
from instruction_vectors.analysis.plan import Plan, Subject, subjects_of
from instruction_vectors.analysis.verdict import Evidence, Rung, Verdict, judge
from instruction_vectors.analysis.where import Trace, explained, states_of, trace_of, weight_distance
from instruction_vectors.analysis.worse import Change, changes_of, forms_of, split_of
from instruction_vectors.evaluation.abilities import Form, Rows
from instruction_vectors.evaluation.knowledge import Split
from instruction_vectors.progress import track
from instruction_vectors.tasks import load_task
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.vector import Head, InstructionVector


@dataclass(frozen=True)
class TaskDiagnosis:
    """One task: how its forms changed, what changed inside, the repairs tried, the verdicts.

    Attributes:
        changes: by form.
        trace: inside.
        grid: scores by model and condition.
        rungs: repairs of the instruction form.
        verdict: on the instruction form, options ranked.
        written_rungs: repairs of few-shot answers.
        written: the verdict on few-shot answers, written out.
    """

    changes: Mapping[Form, Change]
    trace: Trace
    grid: Mapping[str, Mapping[str, float]]
    rungs: Sequence[Rung]
    verdict: Verdict
    written_rungs: Sequence[Rung]
    written: Verdict

    @property
    def bad(self) -> bool:
        """Whether it is suppressed or lost, in its instruction form or in few-shot answers."""
        return any(verdict.name in ("suppressed", "lost") for verdict in (self.verdict, self.written))


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        tasks: by name.
        split: the drop over all tasks with both forms, in two parts; None without such tasks.
        heads: the base's heads that all vectors stand on.
        effects: mean causal effect of every head, before and after, `[layer, head]`.
        scale: how strongly vectors went in.
        weight_distance: relative, over the weights that changed.
        explained: R² against the drop over tasks.
        plan: the settings.
        vectors: the base's, by task.
    """

    tasks: Mapping[str, TaskDiagnosis]
    split: Split | None
    heads: Sequence[Head]
    effects: Mapping[str, list[list[float]]]
    scale: float
    weight_distance: float
    explained: Mapping[str, float]
    plan: Plan
    vectors: Mapping[str, InstructionVector] = field(default_factory=dict, repr=False)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict of every task, on its instruction form."""
        return {name: task.verdict for name, task in self.tasks.items()}

    @property
    def bad(self) -> bool:
        """Whether any task is suppressed or lost, in its instruction form or in few-shot answers."""
        return any(task.bad for task in self.tasks.values())

    def to_dict(self) -> dict[str, Any]:
        """Every number, ready for JSON; the vectors are artefacts of their own."""
        found = asdict(replace(self, vectors={})) | {"bad": self.bad}
        del found["vectors"]
        return found


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
        return _Examination(pair, subjects, extra, plan, _counter(advance)).result()


def _counter(advance: Any) -> Any:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(done)

    return step


class _Examination:
    """The measurements of one diagnosis, in order."""

    def __init__(self, pair: Pair, subjects: dict[str, Subject], extra: dict[str, Subject], plan: Plan, step: Any) -> None:
        self.pair, self.subjects, self.plan, self.step = pair, subjects, plan, step
        self.tokenizer = pair.tokenizer
        with pair.base() as model:
            self.base_forms = forms_of(model, self.tokenizer, subjects, step)
            means = means_of(model, self.tokenizer, subjects, plan, step)
            self.effects = effects_of(model, self.tokenizer, subjects, means, plan, step)
            self.heads = heads_of(self.effects, plan)
            base = Vectors.of(model, means, self.heads, records_of(model, subjects, plan))
            scale = choose_scale(model, self.tokenizer, subjects, base, plan)
            self.base_states = states_of(model, self.tokenizer, subjects)
        with pair.tuned() as model:
            self.tuned_forms = forms_of(model, self.tokenizer, subjects, step)
            means = means_of(model, self.tokenizer, {**subjects, **extra}, plan, step)
            trained = means.pop("last", None)
            self.tuned_effects = effects_of(model, self.tokenizer, subjects, means, plan, step)
            tuned = Vectors.of(model, means, self.heads)
            theirs = None if trained is None else Vectors.of(model, {"last": trained}, self.heads).mean
            self.tuned_states = states_of(model, self.tokenizer, subjects)
        self.tools = Tools(base, tuned, scale, theirs, subjects)

    def result(self) -> Diagnosis:
        """Everything put together."""
        with self.pair.base() as model:
            base = {name: self._asked(model, name, self.base_forms) for name in self.subjects}
        tasks = {name: self._task(name, base[name]) for name in self.subjects}
        drops = {name: task.changes["instruction"].drop.value for name, task in tasks.items()}
        return Diagnosis(
            tasks=tasks,
            split=split_of(self.base_forms, self.tuned_forms, self.plan.seed),
            heads=self.heads,
            effects={"before": _mean(self.effects), "after": _mean(self.tuned_effects)},
            scale=self.tools.scale,
            weight_distance=weight_distance(self.pair),
            explained=explained({name: task.trace for name, task in tasks.items()}, drops),
            plan=self.plan,
            vectors=self.tools.base.by_task,
        )

    def _task(self, name: str, base: Answers) -> TaskDiagnosis:
        rules = self.plan.rules
        changes = changes_of(self.subjects[name], self.base_forms[name], self.tuned_forms[name], rules)
        # Repairs and their controls are tried where something seems to have been lost.
        fell = changes["instruction"].drop.value > 0
        with self.pair.tuned() as model:
            tuned = self._asked(model, name, self.tuned_forms, controls=fell)
        rungs = self._rungs(name, base, tuned) if fell else []
        verdict = judge(_evidence(changes, "instruction", rungs), rules)
        written_rungs = self._written_rungs(name) if changes["in_context"].drop.value > 0 else []
        written = judge(_evidence(changes, "in_context", written_rungs), rules)
        effects, states = (self.effects, self.tuned_effects), (self.base_states, self.tuned_states)
        trace = trace_of(name, self.tools.base, self.tools.tuned, effects, states, self.heads)
        grid = {label: {c: sum(a[c]) / len(a[c]) for c in GRID} for label, a in (("base", base), ("tuned", tuned))}
        return TaskDiagnosis(changes, trace, grid, rungs, verdict, written_rungs, written)

    def _asked(self, model: Any, name: str, forms: Mapping[str, Rows], *, controls: bool = False) -> Answers:
        conditions = self.tools.shared(name) | (self.tools.controls(name, self.plan.seed) if controls else {})
        found = ask(model, self.tokenizer, self.subjects[name], conditions)
        self.step()
        return {**found, "x+c": forms[name]["instruction"]}

    def _rungs(self, name: str, base: Answers, tuned: Answers) -> list[Rung]:
        subject = self.subjects[name]
        repairs = [(r, tuned[r.name]) for r in (PROMPTED, ADDED, SUBTRACTED) if r.name in tuned]
        repairs += dialled(self.pair, self.tokenizer, subject, self.plan)
        self.step()
        return [rung_of(repair, after, base, tuned, subject.width, self.plan.rules) for repair, after in repairs]

    def _written_rungs(self, name: str) -> list[Rung]:
        subject, seed = self.subjects[name], self.plan.seed
        with self.pair.base() as model:
            base = write_out(model, self.tokenizer, subject, self.tools.written(name, seed, controls=False))
        with self.pair.tuned() as model:
            tuned = write_out(model, self.tokenizer, subject, self.tools.written(name, seed, controls=True))
        base["x+c"], tuned["x+c"] = (forms[name]["in_context"] for forms in (self.base_forms, self.tuned_forms))
        repairs = [(r, tuned[r.name]) for r in (WRITTEN_ADDED, WRITTEN_SUBTRACTED) if r.name in tuned]
        repairs += dialled(self.pair, self.tokenizer, subject, self.plan, written=True)
        return [rung_of(repair, after, base, tuned, 1.0, self.plan.rules) for repair, after in repairs]


def _evidence(changes: Mapping[Form, Change], form: Form, rungs: Sequence[Rung]) -> Evidence:
    told, known = changes[form], changes.get("knowledge")
    return Evidence(
        base=told.base,
        drop=told.drop,
        drop_bound=told.bound,
        knowledge=known.base if known else None,
        knowledge_drop=known.drop if known else None,
        knowledge_bound=known.bound if known else None,
        rungs=rungs,
    )


def _mean(effects: Mapping[str, Tensor]) -> list[list[float]]:
    mean: Tensor = sum(effects.values()) / len(effects)  # type: ignore[assignment]
    return mean.tolist()
