"""`transformers.Trainer` with guidance."""

from transformers import Trainer

from instruction_vectors.training.guidance import IVGuidance


class IVTrainer(IVGuidance, Trainer):
    """`transformers.Trainer` with IV guidance: change the class name, pass `vector` and `guidance`.

    See `IVGuidance` for the three arguments it adds.
    """
