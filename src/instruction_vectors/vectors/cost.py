"""What a vector's heads cost to find, counted before anything runs: tokens that go through the whole model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from instruction_vectors.models.anatomy import Anatomy
from instruction_vectors.models.tokens import encode, encode_pair
from instruction_vectors.tasks.prompts import PLAIN, Corruption, Template, instructed
from instruction_vectors.tasks.task import Task
from instruction_vectors.vectors.mediation import Measure
from instruction_vectors.vectors.prompting import Source, counterfactuals, demonstrations


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens, each of which passes through all layers once (or two through half of them).

    Attributes:
        prompts: counterfactual prompts.
        means: of the prompts that head outputs are averaged over, tokens that they share counted for each.
        own: of the counterfactual prompts themselves; three times where effects are estimated first (a forward and a backward).
        heads: one for every second head, times the tokens measured of an answer: a head's row joins the sweep at its layer.
        written: of the prompts that the model writes its own answers to, and of answers as long as the task's.
        together: of `joint_check`: its means, and every prompt as it is and with each set of heads patched.
        choosing: of `analysis.sweep` over several numbers of heads: each row once, its last token and answer for every number.
    """

    prompts: int
    means: int
    own: int
    heads: int
    written: int = 0
    together: int = 0
    choosing: int = 0

    @classmethod
    def of_task(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        anatomy: Anatomy,
        task: Task,
        *,
        prompts: int,
        mean_prompts: int,
        shots: int,
        source: Source = "demonstrations",
        corruption: Corruption = "shuffle_and_drop",
        measure: Measure = "probability",
        own_answers: bool = False,
        screen: int | None = None,
        draws: int | None = None,
        validation: Task | None = None,
        tried: int = 0,
        template: Template = PLAIN,
        seed: int = 0,
    ) -> "Cost":
        """Count what finding a task's heads takes.

        Args:
            tokenizer: the model's.
            anatomy: the model's.
            task: rows to draw prompts from.
            prompts: counterfactual prompts.
            mean_prompts: prompts to average head outputs over.
            shots: shots a prompt.
            source: what those prompts show (`extract`).
            corruption: what a counterfactual prompt lacks.
            measure: as in `causal_effects`.
            own_answers: whether the model writes the answers that are measured.
            screen: how many heads are measured after all are estimated; None: all are measured.
            draws: random sets that chosen heads are tried beside (`joint_check`); None: they are not tried together.
            validation: rows to choose a number of heads on.
            tried: how many numbers are tried there.
            template: the layout of prompts.
            seed: what every draw depends on.

        Raises:
            DataError: an answer that tokenises to nothing, where whole answers are counted.
        """
        drawn: dict[str, Any] = {"shots": shots, "template": template}
        told = demonstrations(task, prompts=mean_prompts, source=source, seed=seed, **drawn)
        asked = counterfactuals(task, prompts=prompts, corruption=corruption, seed=seed, **drawn)
        own, heads = _tokens(tokenizer, asked), anatomy.n_layers * anatomy.n_heads if screen is None else screen
        measured = _answers(tokenizer, asked) if measure == "answer" else len(asked)
        written = together = choosing = 0
        if own_answers:
            # The same queries, shots and instruction as in the prompts it answers; only the order of the shots' answers differs.
            like = counterfactuals(task, prompts=prompts, corruption="shuffle", seed=seed, **drawn)
            written = _tokens(tokenizer, like) + _answers(tokenizer, like)
        if draws is not None:
            drawn |= {"prompts": mean_prompts + prompts, "seed": seed + 1}
            for side in (demonstrations(task, source=source, **drawn), counterfactuals(task, corruption=corruption, **drawn)):
                together += (1 + 1 + draws) * _tokens(tokenizer, side[:prompts]) + _tokens(tokenizer, side[prompts:])
        if validation is not None:
            rows = [instructed(validation, row, template=template) for row in validation.rows]
            pairs = [(prompt.text, prompt.target) for prompt in rows]
            choosing = _tokens(tokenizer, pairs) - len(pairs) + tried * _answers(tokenizer, pairs)
        return cls(
            prompts=len(asked),
            means=_tokens(tokenizer, told),
            own=own * (1 if screen is None else 3),
            heads=heads * measured // 2,
            written=written,
            together=together,
            choosing=choosing,
        )

    def __str__(self) -> str:
        parts = {
            "to average over": self.means,
            f"of {self.prompts} counterfactual prompts": self.own,
            "for their heads (half a token a head)": self.heads,
            "to write its own answers": self.written,
            "to try heads together": self.together,
            "to choose how many": self.choosing,
        }
        listed = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
        return (
            f"cost: about {sum(parts.values()):,} tokens through the model: {listed}; many more where a family does not fit "
            "the sweep"
        )


def _tokens(tokenizer: PreTrainedTokenizerBase, asked: Iterable[tuple[str, str]]) -> int:
    return sum(len(encode(tokenizer, prompt)) for prompt, _ in asked)


def _answers(tokenizer: PreTrainedTokenizerBase, asked: Iterable[tuple[str, str]]) -> int:
    return sum(len(encode_pair(tokenizer, *pair)[1]) for pair in asked)
