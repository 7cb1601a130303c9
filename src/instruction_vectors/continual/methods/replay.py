"""Replay: some rows of every earlier task are trained on again."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from torch import nn

from instruction_vectors.continual.method import Method, Row
from instruction_vectors.files import read_json, write_json


class Replay(Method):
    """Sequential LoRA with `memory` rows of each earlier task mixed in (InsCL and Jiang et al. 2502.11019 keep 30 to 50)."""

    name = "replay"
    source = "Chaudhry et al. 1902.10486"
    keeps_rows = True
    settings: ClassVar[tuple[str, ...]] = ("memory",)
    memory = 50

    def attach(self, base: nn.Module) -> None:
        """An adapter, and nothing to remember yet."""
        super().attach(base)
        self.kept: dict[str, list[Row]] = {}

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """This task's rows and what is kept of the earlier ones."""
        return [*rows, *(row for number in sorted(self.kept, key=int) for row in self.kept[number])]

    def end(self, number: int, rows: Sequence[Row]) -> None:
        """Keep a sample of this task."""
        generator = random.Random(f"replay/{self.stage.seed}/{number}")
        self.kept[str(number)] = generator.sample(list(rows), min(self.memory, len(rows)))

    def save(self, folder: Path) -> None:
        """The adapter and the memory."""
        super().save(folder)
        write_json(folder / "memory.json", self.kept)

    def restore(self, base: nn.Module, folder: Path) -> None:
        """The adapter and the memory."""
        super().restore(base, folder)
        self.kept = read_json(folder / "memory.json")
