"""Anchors guided by their instructions' vectors: this project's own, after Jiang et al. 2406.12227, §5."""

from instruction_vectors.continual.guides.iv import IV


class AnchorsIV(IV):
    """`iv` on anchors alone, each with the vector of its own instruction; the task's rows train plainly."""

    name = "anchors_iv"
    source = "after Jiang et al. 2406.12227"
    anchors_only = True
