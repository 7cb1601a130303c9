"""Full fine-tuning: every weight of the model trains, and the original stays beside them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import LNTuningConfig, get_peft_model
from torch import nn

from instruction_vectors.continual.method import Method
from instruction_vectors.errors import TrainingError


class Full(Method):
    """All weights trained on task after task (SeqFT of TRACE, Wang et al. 2310.06762).

    `peft.LNTuningConfig` trains a copy of each module it is told, and not of norms alone: told all that hold weights, it trains
    the whole model, and with adapters off that is the original still. Weights, copies, gradients and AdamW's moments take
    20 bytes a weight, the state after a task 4. An adapter's learning rate is too high here: take a tenth or less.
    """

    name = "full"
    source = "Wang et al. 2310.06762"

    def check(self, base: nn.Module) -> None:
        """Whether all weights can train.

        Raises:
            TrainingError: they have half the size, in which small steps are rounded away, or a module holds others than a
                `weight` and a `bias`, such as a mixture's experts.
        """
        if narrow := {str(weight.dtype) for weight in base.parameters() if weight.dtype.itemsize < 4}:
            raise TrainingError(f"method 'full' trains the model's own weights, which are {', '.join(narrow)}: take float32")
        for name in _holders(base):
            own = {each for each, _ in base.get_submodule(name).named_parameters(recurse=False)}
            if "weight" not in own or own - {"weight", "bias"}:
                raise TrainingError(f"method 'full' copies modules of a weight and a bias; {name} holds {', '.join(sorted(own))}")

    def attach(self, base: nn.Module) -> None:
        """A copy of every module that holds weights."""
        with _unlisted():
            self.model = get_peft_model(base, LNTuningConfig(target_modules=list(_holders(base)), task_type="CAUSAL_LM"))
        self._join()

    def save(self, folder: Path) -> None:
        """The copies; the original is not written again."""
        self.model.save_pretrained(str(folder), save_embedding_layers=False)

    def restore(self, base: nn.Module, folder: Path) -> None:
        """The copies, one for both where the original has one."""
        with _unlisted():
            super().restore(base, folder)
        self._join()

    def _join(self) -> None:
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        if head.weight is embedding.weight:
            head.ln_tuning_layers["default"].weight = embedding.ln_tuning_layers["default"].weight


def _holders(model: nn.Module) -> Iterator[str]:
    """Names of the modules that hold weights themselves."""
    return (name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None)


@contextmanager
def _unlisted() -> Iterator[None]:
    """PEFT warns of classes that are not on its list, and of embeddings that share their weights with the head."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unsupported layer type|Model has `tie_word_embeddings=True`")
        yield
