"""Repairs that leave the tuned weights as they are: shots and vectors, each with what stands in for it as a control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from instruction_vectors.analysis.conditions import Condition, shuffled
from instruction_vectors.analysis.extracted import Vectors
from instruction_vectors.analysis.plan import Subject, other_of
from instruction_vectors.vectors.vector import InstructionVector

GRID = ("x", "x+c", "x+iv(base)", "x+c+iv(base)", "x+iv(tuned)", "x+c+iv(tuned)")


@dataclass(frozen=True)
class Repair:
    """A rung before it is judged: the condition that repairs, its controls, and which of them must be beaten."""

    name: str
    controls: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    evidence: bool = True


_ADDED = ("other task", "random", "mean of all tasks")
_SUBTRACTED = ("random", "other task")
_SHUFFLED = "shuffled heads"


def _vectored(form: str, own: str, required: Sequence[str]) -> Repair:
    """A repair by a vector: `form` says where it goes in, the controls which vectors stand in for it.

    That of shuffled heads is shown and need not be beaten: the rules were fixed without it.
    """
    controls = tuple(form.format(which) for which in (*required, _SHUFFLED))
    return Repair(form.format(own), controls, controls[:-1])


PROMPTED = Repair("few-shot", ("few-shot, other task's shots", "few-shot, shuffled answers"), ("few-shot, other task's shots",))
ADDED = _vectored("x+c+iv({})", "base", _ADDED)
SUBTRACTED = _vectored("x+c-iv({})", "last", _SUBTRACTED)
WRITTEN_ADDED = _vectored("few-shot+iv({})", "base", _ADDED)
WRITTEN_SUBTRACTED = _vectored("few-shot-iv({})", "last", _SUBTRACTED)


@dataclass(frozen=True)
class Tools:
    """What repairs are made of: both models' vectors, their scale, the last task's vector if known."""

    base: Vectors
    tuned: Vectors
    scale: float
    last: Vectors | None = None
    subjects: Mapping[str, Subject] = field(default_factory=dict)
    last_name: str | None = None
    """What the last task is called among the subjects, if it is one: subtracting its vector is no control for subtracting it."""

    def shared(self, name: str) -> dict[str, Condition]:
        """Conditions under which both models are asked."""
        first, second = self.base.by_task[name], self.tuned.by_task[name]
        asked = {"x": Condition("x")}
        for label, vector in (("base", first), ("tuned", second)):
            asked[f"x+iv({label})"] = Condition("x", vector, self.scale)
            asked[f"x+c+iv({label})"] = Condition("x+c", vector, self.scale)
        asked["few-shot"] = Condition("few-shot", shots=self.subjects[name].probe.shot_sets())
        if self.last is not None:
            asked[SUBTRACTED.name] = Condition("x+c", self.last.mean, -self.scale)
        return asked

    def controls(self, name: str, seed: int) -> dict[str, Condition]:
        """Conditions that only tell what a repair's form would do."""
        own, theirs = (self.subjects[which].probe.shot_sets() for which in (name, self._other(name)))
        asked = {label: Condition("x+c", v, self.scale) for label, v in self._stand_ins(ADDED, name, seed).items()}
        for label, shots in zip(PROMPTED.controls, (theirs, [shuffled(s) for s in own]), strict=True):
            asked[label] = Condition("few-shot", shots=shots)
        taken = self._stand_ins(SUBTRACTED, name, seed).items()
        return asked | {label: Condition("x+c", v, -self.scale) for label, v in taken}

    def written(self, name: str, seed: int, *, controls: bool) -> dict[str, Condition]:
        """Vectors in few-shot prompts, whose answers are written out; the controls only where asked for."""
        shots = self.subjects[name].probe.shot_sets()
        repairs = {WRITTEN_ADDED.name: (self.base.by_task[name], self.scale)}
        if self.last is not None:
            repairs[WRITTEN_SUBTRACTED.name] = (self.last.mean, -self.scale)
        for repair, scale in ((WRITTEN_ADDED, self.scale), (WRITTEN_SUBTRACTED, -self.scale)) if controls else ():
            repairs |= {label: (vector, scale) for label, vector in self._stand_ins(repair, name, seed).items()}
        return {label: Condition("few-shot", vector, scale, shots) for label, (vector, scale) in repairs.items()}

    def _stand_ins(self, repair: Repair, name: str, seed: int) -> dict[str, InstructionVector]:
        """The vectors of a repair's controls by their label, as far as there are such."""
        other = self._other(name)
        if repair in (ADDED, WRITTEN_ADDED):
            base, moved = self.base, self.base.shuffled.get(name)
            required = [base.by_task[other], base.random(name, seed), base.mean]
        elif self.last is not None:
            another = other_of(name, list(self.subjects), but=self.last_name)
            required, moved = [self.last.mean.random_like(seed), self.tuned.by_task[another]], self.last.shuffled.get("last")
        else:
            return {}
        return dict(zip(repair.controls, [*required, *([moved] if moved else [])], strict=False))

    def _other(self, name: str) -> str:
        return other_of(name, list(self.subjects))
