r"""Keeping head outputs where they were (Jiang et al. 2502.11019, eq. 5).

$$\ell_{FV} = \sum_{(l,j) \in S} \lVert z_{lj}^{M_{j-1}} - z_{lj}^{M} \rVert^2$$

at the last input token, S the heads of the task's vector.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import Anatomy
from instruction_vectors.models.hooks import edit_heads, pick
from instruction_vectors.training.objectives import precise
from instruction_vectors.vectors.vector import Head


def squared_distance(
    student: Float[Tensor, "answer head head_dim"],
    teacher: Float[Tensor, "answer head head_dim"],
    total: Tensor | float | None = None,
) -> Float[Tensor, ""]:
    """Squared distance of head outputs, summed over heads: its mean over answers, or its sum over `total`."""
    summed = (precise(student) - precise(teacher)).square().sum()
    return summed / (len(student) if total is None else total)


@contextmanager
def heads_read(
    anatomy: Anatomy, heads: Sequence[Head], where: Tensor
) -> Iterator[Callable[[], Float[Tensor, "answer head head_dim"]]]:
    """Keep the outputs of `heads` at the True places of `where`, with their gradients; ask for them after a forward.

    Entered before a vector goes in, it reads what the heads put out themselves.

    Raises:
        TrainingError: inside, where checkpointing runs a layer without gradients that are wanted here.
    """
    layers: dict[int, Tensor] = {}
    learns = torch.is_grad_enabled()

    def keep(layer: int, outputs: Tensor) -> Tensor:
        if learns and not torch.is_grad_enabled():
            raise TrainingError(
                "reentrant activation checkpointing runs layers without gradients, so holding heads would teach nothing; set "
                "gradient_checkpointing_kwargs={'use_reentrant': False}"
            )
        layers.setdefault(layer, pick(outputs, where))  # a layer that is recomputed says the same again
        return outputs

    with edit_heads(anatomy, {layer for layer, _ in heads}, keep):
        yield lambda: torch.stack([layers[layer][:, head].to(anatomy.device) for layer, head in heads], dim=1)
