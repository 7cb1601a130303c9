"""O-LoRA: each task's adapter learns in a subspace orthogonal to the earlier ones'."""

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from instruction_vectors.continual.methods.inclora import IncLoRA


class OLoRA(IncLoRA):
    r"""IncLoRA with $\lambda \sum_{i<t} \sum_{j,k} |(A_i A_t^\top)_{jk}|$ (Wang et al. 2310.14152, eq. 8; λ = 0.5).

    The authors' code sums absolute values, the paper's text squares; the code's form is taken.
    """

    name = "olora"
    source = "Wang et al. 2310.14152"
    settings = ("strength",)
    strength = 0.5

    def penalty(self) -> Tensor | None:
        """How far the newest subspace is from orthogonal to the earlier ones."""
        *earlier, newest = self.adapters
        if not earlier:
            return None
        layers = [m.lora_A for m in self.model.modules() if isinstance(m, LoraLayer)]
        overlaps = [(a[name].weight.detach() @ a[newest].weight.T).abs().sum() for a in layers for name in earlier]
        return self.strength * torch.stack(overlaps).sum()
