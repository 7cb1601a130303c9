"""What a teacher says of a batch, and what it costs the student to stray from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.consistency import squared_distance
from instruction_vectors.training.objectives import kl_divergence
from instruction_vectors.training.targets import Targets
from instruction_vectors.training.teacher import Teacher
from instruction_vectors.vectors.vector import Head


@dataclass(frozen=True)
class Said:
    """A teacher's answers for one batch.

    Attributes:
        config: how they weigh.
        targets: the batch's.
        asked: numbers of the targets' places that the KL compares.
        logits: what the teacher predicts there; None without a KL, or where the student's head is still to say it.
        states: its final states there where the student's head is its own; the student's pass through the head takes them along.
        heads: by vector name, its head outputs where the vector goes in; empty without consistency.
    """

    config: IVGuidanceConfig
    targets: Targets
    asked: Int[Tensor, " asked"]
    logits: Float[Tensor, "asked vocabulary"] | None
    states: Float[Tensor, "asked hidden"] | None
    heads: Mapping[str, Float[Tensor, "answer head head_dim"]]

    @classmethod
    def of(
        cls,
        teacher: Teacher,
        config: IVGuidanceConfig,
        batch: Mapping[str, Any],
        targets: Targets,
        heads: Mapping[str, Sequence[Head]],
        *,
        same_head: bool,
    ) -> "Said":
        """Ask the teacher; `heads` are those of each vector the batch names, `same_head` is `Teacher.has_the_head_of`."""
        asked = targets.answers if config.kl_positions == "last_input" else targets.rows
        logits = teacher.logits(batch, targets, asked) if config.kl_weight and not same_head else None
        states = teacher.states(batch, targets, asked) if config.kl_weight and same_head else None
        read = teacher.heads(batch, targets, heads) if config.consistency_weight else {}
        return cls(config, targets, asked, logits, states, read)

    def parted(
        self, logits: Float[Tensor, "row vocabulary"]
    ) -> tuple[Float[Tensor, "place vocabulary"], Float[Tensor, "asked vocabulary"] | None]:
        """The student's own logits, and the teacher's: those that came out of the head after them, or what it said before."""
        if self.states is None:
            return logits, self.logits
        places = len(logits) - len(self.states)
        return logits[:places], logits[places:].detach()

    def costs(
        self,
        logits: Float[Tensor, "place vocabulary"],
        taught: Float[Tensor, "asked vocabulary"] | None,
        heads: Mapping[str, Float[Tensor, "answer head head_dim"]],
        labels: Any = None,
        answers: Any = None,
    ) -> dict[str, tuple[float, Float[Tensor, ""]]]:
        """Weight and value of each term, by name, given both sides' logits as `parted` parts them.

        `labels` and `answers` count those of a whole accumulation window.
        """
        config = self.config
        found: dict[str, tuple[float, Tensor]] = {}
        if taught is not None:
            divergence = kl_divergence(
                logits[self.asked],
                taught,
                direction=config.kl_direction,
                temperature=config.temperature,
                threshold=config.kl_threshold,
                total=labels if config.kl_positions == "answer" else answers,
            )
            found["kl"] = (config.kl_weight, divergence)
        if self.heads:
            total = len(self.targets.answers) if answers is None else answers
            each = []
            for name, was in self.heads.items():
                shared = self.targets.shared_by(name)  # a place counts once for every answer that begins there
                mine, theirs = (one.repeat_interleave(shared, 0) for one in (heads[name], was))
                each.append(squared_distance(mine, theirs, total))
            found["consistency"] = (config.consistency_weight, torch.stack(each).sum())
        return found
