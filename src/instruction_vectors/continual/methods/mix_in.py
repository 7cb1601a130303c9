"""Mix-in: a few general instructions among each task's rows."""

import random
from collections.abc import Sequence

from instruction_vectors.continual.method import Method, Row
from instruction_vectors.errors import TrainingError


class MixIn(Method):
    """Sequential LoRA with `share` as many general instruction rows as the task has, drawn anew for every task.

    The plain habit of whoever fine-tunes; Scialom et al. 2205.12393 replay 1% of general instructions, 5% is taken here.
    """

    name = "mix_in"
    source = "Scialom et al. 2205.12393"
    needs_instructions = True
    trains_on_instructions = True
    settings = ("share",)
    share = 0.05

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """This task's rows and the instructions among them.

        Raises:
            TrainingError: there are no instructions.
        """
        if not self.instructions:
            raise TrainingError("method 'mix_in' needs general instructions, and none is short enough for max_tokens")
        count = min(max(1, round(self.share * len(rows))), len(self.instructions))
        return [*rows, *random.Random(f"mix_in/{self.stage.seed}/{number}").sample(list(self.instructions), count)]
