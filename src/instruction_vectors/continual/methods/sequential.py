"""Sequential LoRA: the plain way, and the baseline of everything else."""

from instruction_vectors.continual.method import Method


class Sequential(Method):
    """One adapter, trained on task after task (Hu et al. 2106.09685)."""

    name = "sequential"
    source = "Hu et al. 2106.09685"
