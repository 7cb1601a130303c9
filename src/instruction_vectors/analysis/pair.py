"""A base model and its fine-tuned child: opened, checked to belong together, and seen one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from instruction_vectors.analysis.belonging import (
    apart,
    check_adapter_files,
    check_adapter_weights,
    check_configs,
    check_models,
    check_start,
    check_tokenizers,
)
from instruction_vectors.errors import ModelError
from instruction_vectors.models.adapters import complete, rewritten_by
from instruction_vectors.models.anatomy import unwrap
from instruction_vectors.models.loading import load


@dataclass(frozen=True, eq=False)
class Pair:
    """Base and tuned model under one tokenizer.

    Attributes:
        tokenizer: of both.
        tuned_model: the fine-tuned child.
        base_model: the base; None where the child is an adapter over it, which is then in memory once.
    """

    tokenizer: PreTrainedTokenizerBase
    tuned_model: nn.Module
    base_model: nn.Module | None = None

    @contextmanager
    def base(self) -> Iterator[nn.Module]:
        """The base, for the length of a `with` block: the tuned model without its adapter where they are one."""
        if self.base_model is not None:
            yield self.base_model
            return
        assert isinstance(self.tuned_model, PeftModel)
        with self.tuned_model.disable_adapter():
            yield self.tuned_model

    @contextmanager
    def tuned(self) -> Iterator[nn.Module]:
        """The tuned model, for the length of a `with` block."""
        yield self.tuned_model

    def released(self) -> Any:
        """The base alone, an adapter taken off it for good: the pair is of no use afterwards."""
        if self.base_model is not None:
            return self.base_model
        assert isinstance(self.tuned_model, PeftModel)
        return self.tuned_model.unload()


def open_pair(
    base: Any, tuned: Any, *, tokenizer: PreTrainedTokenizerBase | None = None, dtype: torch.dtype = torch.float32
) -> Pair:
    """A pair, from names, folders or models in memory.

    Args:
        base: a short name, folder, hub id or model; may be None where `tuned` is a PEFT model, whose base is then meant.
        tuned: the same, or the folder of a PEFT adapter over the base.
        tokenizer: needed where the base is a model in memory.
        dtype: of a base that is opened; a child has its base's.

    Raises:
        ModelError: one cannot be opened, or the two do not belong together; the message says why.
    """
    if base is None and not isinstance(tuned, PeftModel):
        raise ModelError("no base model: only an adapter over a model in memory brings its own base; pass `base`")
    if isinstance(base, str | Path):
        base, own = load(str(base), dtype=dtype)
        tokenizer = tokenizer or own
    if tokenizer is None:
        raise ModelError("a model in memory comes without its tokenizer; pass `tokenizer`")
    if isinstance(tuned, str | Path):
        check_files(base, tokenizer, tuned)
        if _is_adapter(tuned):
            return Pair(tokenizer, _adapted(base, Path(tuned)))
        tuned = _whole(str(tuned), unwrap(base).dtype).to(unwrap(base).device)
    if isinstance(tuned, PeftModel) and (base is None or unwrap(base) is unwrap(tuned)):
        check_start(rewritten_by(tuned))
        return Pair(tokenizer, tuned)
    check_models(base, tuned)
    return Pair(tokenizer, tuned, base)


def check_files(base: nn.Module, tokenizer: PreTrainedTokenizerBase, tuned: str | Path) -> None:
    """What the small files of a fine-tuned child tell, before its weights are read.

    Raises:
        ModelError: it cannot be opened, or does not belong to the base.
    """
    if _is_adapter(tuned):
        return check_adapter_files(base, tokenizer, Path(tuned))
    try:
        config = AutoConfig.from_pretrained(tuned, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(tuned)!r} cannot be opened as a model or adapter: {str(error).splitlines()[0]}") from error
    check_configs(unwrap(base).config.get_text_config(), config.get_text_config())
    try:
        other = AutoTokenizer.from_pretrained(tuned, trust_remote_code=False)
    except (OSError, ValueError):
        return  # saved without one, as Trainer does: the base's is used
    check_tokenizers(tokenizer, other)


def _is_adapter(tuned: str | Path) -> bool:
    return (Path(tuned) / "adapter_config.json").exists()


def _whole(folder: str, dtype: torch.dtype) -> Any:
    """Whole weights; training scripts often save them without a tokenizer, which is not needed here."""
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder!r} cannot be opened as a model: {str(error).strip().splitlines()[0]}") from error


def _adapted(base: nn.Module, folder: Path) -> nn.Module:
    try:
        model = PeftModel.from_pretrained(base, str(folder)).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[min(1, len(lines) - 1)] if lines else type(error).__name__
        raise apart(f"the adapter {folder} does not fit the base ({reason})") from error
    check_adapter_weights(model, folder)
    return complete(model, folder)
