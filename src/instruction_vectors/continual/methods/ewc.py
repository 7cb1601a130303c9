"""Elastic weight consolidation over the adapter's parameters."""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from instruction_vectors.continual.method import Method, Row
from instruction_vectors.files import write_atomic
from instruction_vectors.models.anatomy import evaluating
from instruction_vectors.training.collator import TreeCollator
from instruction_vectors.training.objectives import language_model_loss
from instruction_vectors.training.targets import Targets, model_inputs


class EWC(Method):
    r"""Sequential LoRA with $\frac{\lambda}{2} \sum_i F_i (\theta_i - \theta_i^*)^2$ (Kirkpatrick et al. 1612.00796, eq. 3).

    F is the diagonal Fisher information at the optimum of each finished task, the mean of *per-example* squared gradients,
    summed over tasks; θ* is the last optimum. λ = 4,000 in Jiang et al. 2502.11019.
    """

    name = "ewc"
    source = "Kirkpatrick et al. 1612.00796"
    settings = ("strength", "examples")
    strength = 4000.0
    examples = 64

    def attach(self, base: nn.Module) -> None:
        """An adapter, free at first."""
        super().attach(base)
        self.fisher: dict[str, Tensor] = {}
        self.optimum: dict[str, Tensor] = {}

    def penalty(self) -> Tensor | None:
        """The quadratic pull towards the last optimum."""
        if not self.fisher:
            return None
        parameters = self.trainable()
        terms = [(f * (parameters[name] - self.optimum[name]) ** 2).sum() for name, f in self.fisher.items()]
        return self.strength / 2 * torch.stack(terms).sum()

    def end(self, number: int, rows: Sequence[Row]) -> None:
        """Measure the Fisher information where this task's training ended."""
        parameters = self.trainable()
        collate = TreeCollator(self.model)
        chosen = rows[: self.examples]
        added = {name: torch.zeros_like(p) for name, p in parameters.items()}
        with evaluating(self.model):
            for row in chosen:
                self.model.zero_grad(set_to_none=True)
                batch = send_to_device(collate([row]), self.model.device)
                targets = Targets.of(batch)
                logits = self.model(**model_inputs(batch)).logits[targets.places]
                language_model_loss(logits[targets.rows], targets.tokens, 1).backward()
                for name, p in parameters.items():
                    if p.grad is not None:
                        added[name] += p.grad.detach() ** 2 / len(chosen)
        self.model.zero_grad(set_to_none=True)
        self.fisher = {name: self.fisher.get(name, 0) + value for name, value in added.items()}
        self.optimum = {name: p.detach().clone() for name, p in parameters.items()}

    def save(self, folder: Path) -> None:
        """The adapter, the Fisher information and the optimum."""
        super().save(folder)
        state = {f"fisher/{n}": v for n, v in self.fisher.items()} | {f"optimum/{n}": v for n, v in self.optimum.items()}
        write_atomic(folder / "ewc.safetensors", safetensors.torch.save({n: v.contiguous() for n, v in state.items()}))

    def restore(self, base: nn.Module, folder: Path) -> None:
        """The adapter, the Fisher information and the optimum."""
        super().restore(base, folder)
        state = safetensors.torch.load_file(folder / "ewc.safetensors", device=str(self.model.device))
        self.fisher = {n.removeprefix("fisher/"): v for n, v in state.items() if n.startswith("fisher/")}
        self.optimum = {n.removeprefix("optimum/"): v for n, v in state.items() if n.startswith("optimum/")}
