r"""The losses of IV-guided training as pure functions of tensors.

$$L = L_{LM}(\text{student run with scale } s(p)) + \lambda \, KL$$

(Jiang et al. 2406.12227, §5; the options no source settles are parameters.)
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Direction = Literal["student_teacher", "teacher_student"]


def language_model_loss(
    logits: Float[Tensor, "label vocabulary"], tokens: Int[Tensor, " label"], total: Tensor | float | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy of the labelled tokens, in nats: their mean, or their sum over `total`.

    `total` is the number of labels in a whole accumulation window, so that the loss does not depend on how the window is
    cut into micro-batches.
    """
    summed = F.cross_entropy(precise(logits), tokens, reduction="sum")
    return summed / (tokens.numel() if total is None else total)


def kl_divergence(
    student: Float[Tensor, "place vocabulary"],
    teacher: Float[Tensor, "place vocabulary"],
    *,
    direction: Direction = "student_teacher",
    temperature: float = 1.0,
    threshold: float = 0.0,
    total: Tensor | float | None = None,
) -> Float[Tensor, ""]:
    r"""KL between next-token distributions, in nats: its mean over places, or its sum over `total`.

    Args:
        student: logits, with gradient.
        teacher: logits, without.
        direction: `student_teacher` is KL(student ‖ teacher) (the authors' code), `teacher_student` the reverse (the text).
        temperature: both logits are divided by it; the usual factor T² is not applied (as in the authors' code).
        threshold: a hinge: places whose divergence lies below it cost nothing, the others what exceeds it.
        total: what the sum is divided by, as in `language_model_loss`.
    """
    log_student = F.log_softmax(precise(student) / temperature, dim=-1)
    log_teacher = F.log_softmax(precise(teacher) / temperature, dim=-1)
    if direction == "student_teacher":
        each = F.kl_div(log_teacher, log_student, reduction="none", log_target=True).sum(-1)
    else:
        each = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
    if threshold > 0:
        each = torch.clamp(each - threshold, min=0)
    return each.sum() / (len(each) if total is None else total)


def precise(numbers: Tensor) -> Tensor:
    """Half-precision numbers in float32; anything better as it is."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))
