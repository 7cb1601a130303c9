"""CorDA: the adapter begins as what the knowledge to be kept uses least of each weight."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from instruction_vectors.continual.method import Method
from instruction_vectors.continual.stage import lora_config
from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import anatomy_of, evaluating
from instruction_vectors.models.precision import widest

_DAMPING = 0.01
"""Of the mean second moment, added in every direction: few rows leave some unseen (the authors' code, as in PEFT)."""


class CorDA(Method):
    r"""Sequential LoRA from the smallest components of $WC$ (Yang et al. 2406.05223, knowledge-preserved adaptation).

    C is the second moment of W's inputs over `examples` prompts of the knowledge to keep: general instructions here; the authors
    take questions of a benchmark. With $WC = U \Sigma V^\top$, $BA$ begins as the last `rank` terms of $U \Sigma V^\top C^{-1}$.
    The authors take this start off W, and no original model is left; here an adapter that does not train takes it off.
    """

    name = "corda"
    source = "Yang et al. 2406.05223"
    needs_instructions = True
    settings = ("examples",)
    examples = 256

    def attach(self, base: nn.Module) -> None:
        """The adapter, and the one that takes its start off.

        Raises:
            TrainingError: there are no instructions.
        """
        if not self.instructions:
            raise TrainingError("method 'corda' needs general instructions, which stand for the knowledge to keep")
        super().attach(base)
        moments = self._moments()
        self.model.add_adapter("start", lora_config(self.stage, seed=self.stage.seed))
        with torch.no_grad():
            for layer, moment in moments.items():
                weight = layer.get_base_layer().weight
                up, down = least_used(weight.T if layer.fan_in_fan_out else weight, moment, self.stage.rank)
                for adapter, sign in (("default", 1), ("start", -1)):
                    layer.lora_A[adapter].weight.copy_(down)
                    layer.lora_B[adapter].weight.copy_(sign / layer.scaling[adapter] * up)
        self._activate()

    def restore(self, base: nn.Module, folder: Path) -> None:
        """Both adapters."""
        super().restore(base, folder)
        self.model.load_adapter(str(folder / "start"), "start")
        self._activate()

    def _activate(self) -> None:
        self.model.base_model.set_adapter(["default", "start"])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name and ".default." in name)

    @torch.no_grad()
    def _moments(self) -> dict[Any, Float[Tensor, "width width"]]:
        """Mean outer product of each adapted matrix's inputs with themselves, over all tokens of the prompts."""
        anatomy, tokens = anatomy_of(self.model), 0  # first: it runs the model to check itself
        layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        sums: dict[Any, Tensor] = {}
        handles = [layer.register_forward_pre_hook(_adder(sums)) for layer in layers]
        try:
            with evaluating(self.model):
                for row in self.instructions[: self.examples]:
                    prompt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]
                    anatomy.backbone(input_ids=torch.tensor([prompt], device=anatomy.device), use_cache=False)
                    tokens += len(prompt)
        finally:
            for handle in handles:
                handle.remove()
        return {layer: sums[layer] / tokens for layer in layers}


def _adder(sums: dict[Any, Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows = args[0].flatten(0, -2).to(widest(args[0].device))
        sums[layer] = sums.get(layer, 0) + rows.T @ rows

    return hook


def least_used(
    weight: Float[Tensor, "outputs inputs"], moment: Float[Tensor, "inputs inputs"], rank: int
) -> tuple[Float[Tensor, "outputs rank"], Float[Tensor, "rank inputs"]]:
    """The part of a weight that matters least to inputs of that second moment, as a product of two."""
    damped = moment + _DAMPING * moment.diagonal().mean() * torch.eye(len(moment)).to(moment)
    left, values, right = torch.linalg.svd(weight.to(moment) @ damped, full_matrices=False)
    root = values[-rank:].sqrt()
    return left[:, -rank:] * root, torch.linalg.solve(damped, (root[:, None] * right[-rank:]).T).T
