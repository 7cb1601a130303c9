"""OSF: full-rank updates whose gradients are kept out of each weight's leading singular directions, by PEFT's implementation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import OSFConfig, get_peft_model
from peft.tuners.osf.layer import OSFLayer
from peft.tuners.tuners_utils import cast_adapter_dtype
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from instruction_vectors.continual.method import Method, Row
from instruction_vectors.errors import TrainingError
from instruction_vectors.models.adapters import LEARNT, adaptable


class OSF(Method):
    """Orthogonal subspace fine-tuning (Nayak et al. 2504.07097; `peft.OSFConfig`) of the matrices LoRA would adapt.

    Before each task every matrix is decomposed as it then is: the leading `share` of its singular directions (PEFT's default,
    half), which by then hold what was learnt, is left out of the gradients, and the rest trains. As in the authors' code it is
    the gradients that are projected, not the steps: AdamW scales a step weight by weight, which turns some of it back into the
    leading directions. The authors let their share grow with the number of tasks; here it stays. With the adapter off the model
    is the original one, whatever was learnt.
    """

    name = "osf"
    source = "Nayak et al. 2504.07097"
    settings = ("share",)
    parts = ("share",)
    share = 0.5

    def check(self, base: nn.Module) -> None:
        """Also that there is something to keep and something to train in every target matrix.

        Raises:
            TrainingError: not so, or a target module that the model has not.
        """
        for name, module in adaptable(base, self.stage.target_modules):
            if not isinstance(module, nn.Linear):
                raise TrainingError(f"method 'osf' decomposes linear layers, and {name} is a {type(module).__name__}")
            width = min(module.weight.shape)
            kept = int(width * self.share)
            if not 0 < kept < width:
                raise TrainingError(f"a share of {self.share:g} keeps {kept} of {name}'s {width} directions")

    def attach(self, base: nn.Module) -> None:
        """The trainable subspace of every target matrix."""
        torch.manual_seed(self.stage.seed)
        config = OSFConfig(effective_rank=self.share, target_modules=list(self.stage.target_modules), task_type="CAUSAL_LM")
        self.model = get_peft_model(base, config)
        self._widen()

    def begin(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """After the first task, matrices as they have become, decomposed anew."""
        if number > 1:
            with torch.no_grad():
                self._decompose({name: _learnt(layer) + layer.get_delta_weight("default") for name, layer in self._layers()})
        return list(rows)

    def save(self, folder: Path) -> None:
        """The subspace that trained last, and what the matrices had learnt before."""
        super().save(folder)
        if any(parametrize.is_parametrized(layer.get_base_layer()) for _, layer in self._layers()):
            save_file({name: _learnt(layer) for name, layer in self._layers()}, folder / LEARNT)

    def restore(self, base: nn.Module, folder: Path) -> None:
        """The matrices of that time, decomposed as they were."""
        super().restore(base, folder)
        if (folder / LEARNT).exists():
            trained = {name: weight.detach().clone() for name, weight in self.trainable().items()}
            self._decompose(load_file(folder / LEARNT, device=str(next(base.parameters()).device)))
            with torch.no_grad():
                for name, weight in self.trainable().items():
                    weight.copy_(trained[name])

    def merged(self) -> nn.Module:
        """Also what the matrices had learnt before the last task."""
        for _, layer in self._layers():
            _plain(layer, learnt=True)
        return super().merged()

    def detach(self) -> None:
        """Take everything off the base model again."""
        for _, layer in self._layers():
            _plain(layer)
        super().detach()

    def _layers(self) -> list[tuple[str, OSFLayer]]:
        return [(name, module) for name, module in self.model.named_modules() if isinstance(module, OSFLayer)]

    def _decompose(self, learnt: Mapping[str, Tensor]) -> None:
        for name, layer in self._layers():
            _plain(layer)
            parametrize.register_parametrization(layer.get_base_layer(), "weight", _Learnt(layer, learnt[name]))
            layer._detach_hooks()
            layer.update_layer("default", layer.effective_rank["default"], self.model.peft_config["default"])
        self._widen()

    def _widen(self) -> None:
        """What trains has float32, whatever the matrices have; PEFT makes it anew then, and loses its gradients' hooks."""
        cast_adapter_dtype(self.model, "default")
        for _, layer in self._layers():
            layer._detach_hooks()
            layer._attach_hooks("default")


class _Learnt(nn.Module):
    """The original matrix, and with the adapter on what it learnt before the task in hand."""

    change: Tensor

    def __init__(self, layer: OSFLayer, change: Tensor) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple, or the layer would become a part of itself
        self.register_buffer("change", change, persistent=False)

    def forward(self, original: Tensor) -> Tensor:
        return original if self._layer[0].disable_adapters else (original + self.change).to(original.dtype)


def _learnt(layer: OSFLayer) -> Tensor:
    """What a matrix learnt before the task in hand."""
    matrix = layer.get_base_layer()
    if not parametrize.is_parametrized(matrix):
        return torch.zeros_like(matrix.weight)
    change: Tensor = matrix.parametrizations.weight[0].change
    return change


def _plain(layer: OSFLayer, *, learnt: bool = False) -> None:
    """A plain matrix again: the original one, or what it has become before the task in hand."""
    if parametrize.is_parametrized(matrix := layer.get_base_layer()):
        parametrize.remove_parametrizations(matrix, "weight", leave_parametrized=learnt)
