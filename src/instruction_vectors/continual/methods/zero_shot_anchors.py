"""Zero-shot anchors: what the original model says to the task's inputs under other instructions, no examples shown."""

from instruction_vectors.continual.methods.anchors import Anchors


class ZeroShotAnchors(Anchors):
    """The control of `steered_anchors`: the same prompts, answered by the original model without any vector."""

    name = "zero_shot_anchors"
    anchors_shots = 0
