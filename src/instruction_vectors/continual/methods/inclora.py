"""IncLoRA: a new adapter for every task, the earlier ones frozen and kept active."""

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel
from torch import nn

from instruction_vectors.continual.method import Method, Row
from instruction_vectors.continual.stage import lora_config


class IncLoRA(Method):
    """One adapter a task, all of them active, only the newest trained (the baseline of O-LoRA, Wang et al. 2310.14152)."""

    name = "inclora"
    source = "Wang et al. 2310.14152"

    def attach(self, base: nn.Module) -> None:
        """The first adapter."""
        super().attach(base)
        self.adapters = ["default"]

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """A fresh adapter for every task but the first."""
        if number > 1:
            self.adapters.append(f"task{number}")
            self.model.add_adapter(self.adapters[-1], lora_config(self.stage, seed=self.stage.seed + number))
            self._activate()
        return super().begin(number, rows)

    def save(self, folder: Path) -> None:
        """Every adapter in a folder of its own."""
        self.model.save_pretrained(str(folder), selected_adapters=self.adapters)

    def restore(self, base: nn.Module, folder: Path) -> None:
        """All adapters, in their order."""
        self.model = PeftModel.from_pretrained(base, str(folder), is_trainable=True)
        named = sorted((p.name for p in folder.iterdir() if p.is_dir()), key=lambda n: int(n.removeprefix("task")))
        for name in named:
            self.model.load_adapter(str(folder / name), name, is_trainable=True)
        self.adapters = ["default", *named]
        self._activate()

    def _activate(self) -> None:
        self.model.base_model.set_adapter(self.adapters)
        newest = f".{self.adapters[-1]}."
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name and newest in name)
