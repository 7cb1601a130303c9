"""What a task's training is guided by: its instruction vector, or a control in its place."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from instruction_vectors.errors import IVError
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.vectors.vector import InstructionVector

Vectors = Mapping[str, InstructionVector]
"""The vector of every task of the sequence, in its order."""
Guide = Callable[[str, Vectors, IVGuidanceConfig], tuple[InstructionVector | None, IVGuidanceConfig]]
"""From a task's name to the vector that guides it and how."""


def none(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """Plain training."""
    return None, guidance


def iv(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """The task's own vector (Jiang et al. 2406.12227, §5)."""
    return vectors[task], guidance


def plain_kl(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """The same KL term towards the original model without any vector, in teacher or student."""
    return vectors[task], replace(guidance, teacher_scale=0.0, sign=0)


def schedule_only(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """The progressively withdrawn vector without a KL term."""
    return vectors[task], replace(guidance, kl_weight=0.0)


def random(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """A random vector on the same heads, with the same norm on each; another one for every task and seed."""
    return vectors[task].random_like(f"{task}/{vectors[task].metadata.get('seed')}"), guidance


def other_task(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """The vector of the sequence's next task (of the first after the last).

    Raises:
        IVError: a sequence of one task has no other.
    """
    if len(vectors) < 2:
        raise IVError("the guide 'other_task' needs a sequence of at least two tasks")
    names = list(vectors)
    return vectors[names[(names.index(task) + 1) % len(names)]], guidance


def mean(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """The mean of all the sequence's vectors."""
    first, *others = vectors.values()
    total = first
    for other in others:
        total = total + other
    return total * (1 / len(vectors)), guidance


def lwf(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """Learning without forgetting (Li and Hoiem 1606.09282): the model before this task teaches on this task's inputs.

    Their weight 1 and temperature 2, KL(teacher‖student) at every answer token; no vector anywhere.
    """
    told = replace(guidance, teacher="previous", teacher_scale=0.0, sign=0, kl_weight=1.0, temperature=2.0)
    return vectors[task], replace(told, kl_positions="answer", kl_direction="teacher_student")


def fvg(task: str, vectors: Vectors, guidance: IVGuidanceConfig) -> tuple[InstructionVector | None, IVGuidanceConfig]:
    """Function-vector guidance with its paper's weights (Jiang et al. 2502.11019): consistent heads, steered previous model."""
    return vectors[task], replace(guidance, teacher="previous", sign=0, kl_weight=0.08, consistency_weight=1.0)


GUIDES: dict[str, Guide] = {
    "none": none,
    "iv": iv,
    "plain_kl": plain_kl,
    "schedule_only": schedule_only,
    "random": random,
    "other_task": other_task,
    "mean": mean,
    "lwf": lwf,
    "fvg": fvg,
    "anchors_iv": iv,
    "anchors_kl": plain_kl,
}
ANCHORS_ONLY = frozenset({"anchors_iv", "anchors_kl"})
"""Guides of anchors alone, for methods that make them: the task's own rows train plainly."""


def guide_named(name: str) -> Guide:
    """The guide called `name`.

    Raises:
        IVError: there is none.
    """
    if name not in GUIDES:
        raise IVError(f"unknown guide {name!r}; there are {', '.join(GUIDES)}")
    return GUIDES[name]
