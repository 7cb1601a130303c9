"""Anchors: what the original model says to the task's own inputs under other instructions, among the task's rows."""

from collections.abc import Sequence

from instruction_vectors.continual.method import Method, Row
from instruction_vectors.errors import IVError


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
    parts = ("anchors_share",)
    anchors_share = 0.25

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """This task's rows and the anchors on its inputs."""
        return [*super().begin(number, rows), *self.anchors]

    @classmethod
    def over(cls, way: type[Method]) -> "type[Anchors]":
        """These anchors among the rows that another method trains on, in that method's way.

        Raises:
            IVError: the other makes anchors itself, or is plain sequential LoRA, which these are over anyway.
        """
        if way.anchors_share:
            raise IVError(f"method {way.name!r} makes anchors already, so {cls.name!r} cannot be put over it")
        if way.name == "sequential":
            raise IVError(f"{cls.name!r} over 'sequential' is the method {cls.name!r} itself")
        told = {
            "__doc__": f"`{way.name}`, with `{cls.name}` among the rows.",
            "name": f"{way.name}+{cls.name}",
            "source": f"{way.source}; {cls.source}",
            "settings": (*way.settings, *cls.settings),
            "parts": (*way.parts, *cls.parts),
        }
        return type(way.__name__ + cls.__name__, (cls, way), told)
