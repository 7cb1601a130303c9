"""How many heads, how strongly, where: tried on validation rows, which no vector is made of and no result reports."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from instruction_vectors.errors import DataError
from instruction_vectors.evaluation.scoring import score
from instruction_vectors.tasks.prompts import PLAIN, Template, instructed
from instruction_vectors.tasks.task import Example, Task
from instruction_vectors.vectors.injection import Mode
from instruction_vectors.vectors.vector import InstructionVector


@dataclass(frozen=True)
class Setting:
    """One way to put a vector in, and what it brought.

    Attributes:
        k: how many heads.
        scale: α.
        mode: how it is put in.
        layer: after which layer a summed vector is added; None otherwise.
        accuracy: first-token accuracy of x + c + θ on the validation rows.
    """

    k: int
    scale: float
    mode: Mode
    layer: int | None
    accuracy: float

    def as_dict(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)


def sweep(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    rows: Sequence[Example],
    vector: InstructionVector,
    *,
    ks: Sequence[int] = (),
    scales: Sequence[float] = (1.0,),
    layers: Sequence[int] = (),
    template: Template = PLAIN,
) -> list[Setting]:
    """Try every number of heads at every scale, `distributed` and, after each of `layers`, `summed`; the best comes first.

    Of settings that are equally right the one with fewer heads, then the weaker, then the earlier tried stands first. A row's
    prompt runs once for all settings, but for its last token and its answer.

    Args:
        model: the model the vector is of.
        tokenizer: its tokenizer.
        task: whose instruction is given.
        rows: the validation rows.
        vector: the task's vector over as many heads as are to be tried at most, the strongest first, as `extract` makes it.
        ks: numbers of heads; all of the vector's by default.
        scales: values of α.
        layers: where to add summed vectors; none by default.
        template: the layout of prompts.

    Raises:
        DataError: no row, or nothing to try.
        VectorError: more heads than the vector has, or a mode that does not fit the model.
    """
    places: list[tuple[Mode, int | None]] = [("distributed", None), *(("summed", layer) for layer in layers)]
    tried = list(product(sorted(set(ks or [len(vector.heads)])), sorted(set(scales), key=abs), places))
    if not rows or not tried:
        raise DataError(f"{len(rows)} validation rows and {len(tried)} settings: need at least one of each")
    prompts = [instructed(task, row, template=template) for row in rows]
    edits: list[Any] = []
    for k, scale, (mode, layer) in tried:
        put = replace(vector.first(model, k), layer=layer)
        edits.append(lambda where, put=put, mode=mode, scale=scale: put.applied(model, mode=mode, scale=scale, positions=where))
    scored = score(
        model,
        tokenizer,
        [prompt.text for prompt in prompts] * len(tried),
        [[prompt.target] for prompt in prompts] * len(tried),
        edit=[edit for edit in edits for _ in prompts],
    )
    hits = [row[0].first_token for row in scored]
    found = []
    for number, (k, scale, (mode, layer)) in enumerate(tried):
        right = sum(hits[number * len(rows) : (number + 1) * len(rows)])
        found.append(Setting(k, scale, mode, layer, right / len(rows)))
    return sorted(found, key=lambda setting: -setting.accuracy)
