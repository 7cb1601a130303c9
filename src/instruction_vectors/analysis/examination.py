"""The measurements of one diagnosis, in order: both models' forms, vectors and effects, then repairs where something fell."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from instruction_vectors.analysis.conditions import ask, write_out
from instruction_vectors.analysis.extracted import Vectors, choose_scale, effects_of, heads_of, means_of, records_of
from instruction_vectors.analysis.ladder import Answers, dialled, rung_of
from instruction_vectors.analysis.outside import LmEval, outside_changes
from instruction_vectors.analysis.pair import Pair
from instruction_vectors.analysis.plan import LAST, Plan, Subject, name_among, other_of
from instruction_vectors.analysis.repairs import (
    ADDED,
    GRID,
    PROMPTED,
    SUBTRACTED,
    WRITTEN_ADDED,
    WRITTEN_SUBTRACTED,
    Repair,
    Tools,
)
from instruction_vectors.analysis.result import Diagnosis, TaskDiagnosis
from instruction_vectors.analysis.verdict import Evidence, Rung, judge
from instruction_vectors.analysis.where import explained, states_of, trace_of, weight_distance
from instruction_vectors.analysis.worse import Change, changes_of, floors_of, forms_of, split_of
from instruction_vectors.evaluation.abilities import Form, Rows
from instruction_vectors.models.anatomy import anatomy_of


class Examination:
    """One diagnosis; measures both models when it is made, repairs when its result is asked for.

    `extra` may hold the task last trained on under the name `last`, `outside` lm-eval tasks to run on both models.
    """

    def __init__(
        self, pair: Pair, subjects: dict[str, Subject], extra: dict[str, Subject], plan: Plan, step: Callable[[], None],
        outside: LmEval | None = None,
    ) -> None:  # fmt: skip
        self.pair, self.subjects, self.plan, self.step = pair, subjects, plan, step
        self.tokenizer = pair.tokenizer
        with pair.base() as model:
            before = outside.rows(model, self.tokenizer) if outside else {}
            self.base_forms = forms_of(model, self.tokenizer, subjects, step)
            self.floors = floors_of(model, self.tokenizer, subjects, self.base_forms, plan.repeats)
            means = means_of(model, self.tokenizer, subjects, plan, step)
            self.effects = effects_of(model, self.tokenizer, subjects, means, plan, step)
            self.heads = heads_of(self.effects, plan)
            base = Vectors.of(model, means, self.heads, records_of(model, subjects, plan, self.tokenizer))
            scale = choose_scale(model, self.tokenizer, subjects, base, plan)
            self.base_states = states_of(model, self.tokenizer, subjects)
        with pair.tuned() as model:
            self.outside = outside_changes(before, outside.rows(model, self.tokenizer) if outside else {}, plan.rules)
            self.tuned_forms = forms_of(model, self.tokenizer, subjects, step)
            means = means_of(model, self.tokenizer, {**subjects, **extra}, plan, step)
            trained = means.pop(LAST, None)
            self.tuned_effects = effects_of(model, self.tokenizer, subjects, means, plan, step)
            tuned = Vectors.of(model, means, self.heads)
            theirs = None if trained is None else Vectors.of(model, {"last": trained}, self.heads)
            self.tuned_states = states_of(model, self.tokenizer, subjects)
        called = name_among(extra[LAST].task, subjects) if LAST in extra else None
        self.tools = Tools(base, tuned, scale, theirs, subjects, called)

    def result(self) -> Diagnosis:
        """Everything put together."""
        with self.pair.base() as model:
            base = {name: self._asked(model, name, self.base_forms) for name in self.subjects}
            dtype = str(anatomy_of(model).dtype).removeprefix("torch.")
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
            lm_eval=self.outside,
            dtype=dtype,
            vectors=self.tools.base.by_task,
        )

    def _task(self, name: str, base: Answers) -> TaskDiagnosis:
        rules = self.plan.rules
        changes = changes_of(self.subjects[name], self.base_forms[name], self.tuned_forms[name], rules, self.floors)
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

    def _asked(self, model: nn.Module, name: str, forms: Mapping[str, Rows], *, controls: bool = False) -> Answers:
        conditions = self.tools.shared(name) | (self.tools.controls(name, self.plan.seed) if controls else {})
        found = ask(model, self.tokenizer, self.subjects[name], conditions)
        self.step()
        return {**found, "x+c": forms[name]["instruction"]}

    def _rungs(self, name: str, base: Answers, tuned: Answers) -> list[Rung]:
        subject = self.subjects[name]
        repairs: list[tuple[Repair, list[float], Answers]]
        repairs = [(r, tuned[r.name], {}) for r in (PROMPTED, ADDED, SUBTRACTED) if r.name in tuned]
        repairs += dialled(self.pair, self.tokenizer, subject, self.plan, other=self._other(name))
        self.step()
        return [rung_of(r, after, base, tuned | controls, subject.width, self.plan.rules) for r, after, controls in repairs]

    def _written_rungs(self, name: str) -> list[Rung]:
        subject, seed = self.subjects[name], self.plan.seed
        with self.pair.base() as model:
            base = write_out(model, self.tokenizer, subject, self.tools.written(name, seed, controls=False))
        with self.pair.tuned() as model:
            tuned = write_out(model, self.tokenizer, subject, self.tools.written(name, seed, controls=True))
        base["x+c"], tuned["x+c"] = (forms[name]["in_context"] for forms in (self.base_forms, self.tuned_forms))
        repairs: list[tuple[Repair, list[float], Answers]]
        repairs = [(r, tuned[r.name], {}) for r in (WRITTEN_ADDED, WRITTEN_SUBTRACTED) if r.name in tuned]
        repairs += dialled(self.pair, self.tokenizer, subject, self.plan, other=self._other(name), written=True)
        return [rung_of(r, after, base, tuned | controls, 1.0, self.plan.rules) for r, after, controls in repairs]

    def _other(self, name: str) -> Subject:
        return self.subjects[other_of(name, list(self.subjects))]


def _evidence(changes: Mapping[Form, Change], form: Form, rungs: Sequence[Rung]) -> Evidence:
    told, known = changes[form], changes.get("knowledge")
    # Written answers have no floor, ranked ones do: knowledge that ranks as before does not show that writing is only covered.
    alike = known if form == "instruction" else None
    return Evidence(
        base=told.base,
        drop=told.drop,
        drop_bound=told.bound,
        knowledge=alike.base if alike else None,
        knowledge_bound=alike.bound if alike else None,
        knowledge_drop=known.drop if known else None,
        rungs=rungs,
    )


def _mean(effects: Mapping[str, Tensor]) -> list[list[float]]:
    mean: Tensor = sum(effects.values()) / len(effects)  # type: ignore[assignment]
    return mean.tolist()
