"""Anchors: what the original model says to the task's own inputs under other instructions, among the task's rows."""

from collections.abc import Sequence

from instruction_vectors.continual.method import Method, Row


class Anchors(Method):
    """Sequential LoRA with `share` as many anchors as the task has rows; no earlier task's data and no outside data.

    An anchor is an input of the task in hand after solved examples of another instruction, answered by the original model. Under
    guidance it has that instruction's vector, so that the KL term holds the model where the task itself never asks: other
    instructions, on inputs that training changes most. Answers of the model's own are as in self-synthesised rehearsal (Huang et
    al. 2403.01244), vectors as in Jiang et al. 2406.12227.
    """

    name = "anchors"
    source = "after Huang et al. 2403.01244"
    settings = ("anchors_share",)
    anchors_share = 0.25

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """This task's rows and the anchors on its inputs."""
        return [*rows, *self.anchors]
