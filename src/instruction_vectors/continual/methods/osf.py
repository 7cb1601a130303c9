"""OSF: full-rank updates kept out of each weight's leading singular directions, by PEFT's own implementation."""

import torch
from peft import OSFConfig, get_peft_model
from torch import nn

from instruction_vectors.continual.method import Method


class OSF(Method):
    """Orthogonal subspace fine-tuning (Nayak et al. 2504.07097; `peft.OSFConfig`) of the matrices LoRA would adapt.

    The leading `share` of each matrix's singular directions is frozen (PEFT's default, half); what is left trains on, task
    after task, in one adapter. The authors let the frozen share grow with the number of tasks; here it stays.
    """

    name = "osf"
    source = "Nayak et al. 2504.07097"
    settings = ("share",)
    parts = ("share",)
    share = 0.5

    def attach(self, base: nn.Module) -> None:
        """The trainable subspace of every target matrix."""
        torch.manual_seed(self.stage.seed)
        config = OSFConfig(effective_rank=self.share, target_modules=list(self.stage.target_modules), task_type="CAUSAL_LM")
        self.model = get_peft_model(base, config)
