"""`transformers.Trainer` with guidance."""

from transformers import Trainer

from instruction_vectors.training.guidance import IVGuidance


class IVTrainer(IVGuidance, Trainer):
    """`transformers.Trainer` with IV guidance (Jiang et al. 2406.12227, §5): change the class name, pass `vector`, `guidance`.

    See `IVGuidance` for the three arguments it adds.
    """
