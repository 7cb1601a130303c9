"""Anchors held by plain KL, the control of `anchors_iv`: this project's own, after Jiang et al. 2406.12227, §5."""

from instruction_vectors.continual.guides.plain_kl import PlainKL


class AnchorsKL(PlainKL):
    """`plain_kl` on anchors alone; the task's rows train plainly."""

    name = "anchors_kl"
    source = "after Jiang et al. 2406.12227"
    anchors_only = True
