"""Steered anchors: what the original model says to the task's inputs under other instructions, each under its vector."""

from instruction_vectors.continual.methods.anchors import Anchors


class SteeredAnchors(Anchors):
    """Anchors without solved examples: the instruction alone, answered by the original model under that instruction's vector.

    Alone such an instruction is often not followed by a small model, with its vector it is (Jiang et al. 2406.12227, Figure 4):
    what is held among the task's rows is the instruction's path itself, f(x, c, θ_c). Prompts are as short as the task's own.
    """

    name = "steered_anchors"
    anchors_shots = 0
    anchors_steered = True
