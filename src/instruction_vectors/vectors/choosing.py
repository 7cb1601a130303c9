"""Which heads carry an instruction: those with the largest effects."""

from jaxtyping import Float
from torch import Tensor

from instruction_vectors.errors import VectorError
from instruction_vectors.vectors.vector import Head


def check_count(k: int, layers: int, heads: int) -> None:
    """Complain of a number of heads that the model does not have, before anything is computed.

    Raises:
        VectorError: k below 1 or above layers × heads.
    """
    if not 1 <= k <= layers * heads:
        raise VectorError(f"{k} heads were asked for, but the model has {layers * heads} ({layers} layers × {heads})")


def top_heads(effects: Float[Tensor, "*prompt layer head"], k: int) -> tuple[Head, ...]:
    """The k heads with the largest mean effect, largest first: the set S of Todd et al. 2310.15213 (k = 10 for 7B).

    Args:
        effects: `[..., layer, head]`, in the units `causal_effects` was asked for; leading dimensions are averaged. Heads
            that were not measured (NaN) come last.
        k: how many heads.

    Returns:
        `(layer, head)` pairs, numbered from 0.

    Raises:
        VectorError: k below 1 or above the number of heads.
    """
    mean = effects.reshape(-1, *effects.shape[-2:]).mean(0)
    check_count(k, *mean.shape)
    order = mean.nan_to_num(float("-inf")).flatten().argsort(descending=True, stable=True)[:k].tolist()
    return tuple((i // mean.shape[1], i % mean.shape[1]) for i in order)
