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

from instruction_vectors.errors import ModelError
from instruction_vectors.models.anatomy import unwrap
from instruction_vectors.models.loading import load

_PROBE = "Name the capital of the country.\nInput: France 1984\nOutput: Zürich, naïve"
_SHAPES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")


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


def open_pair(
    base: Any, tuned: Any, *, tokenizer: PreTrainedTokenizerBase | None = None, dtype: torch.dtype = torch.float32
) -> Pair:
    """A pair, from names, folders or models in memory.

    Args:
        base: a short name, folder, hub id or model; may be None where `tuned` is a PEFT model, whose base is then meant.
        tuned: the same, or the folder of a PEFT adapter over the base.
        tokenizer: needed where the base is a model in memory.
        dtype: of weights that are opened.

    Raises:
        ModelError: one cannot be opened, or the two do not belong together; the message says why.
    """
    adapter = isinstance(tuned, str | Path) and (Path(tuned) / "adapter_config.json").exists()
    if base is None and not isinstance(tuned, PeftModel):
        raise ModelError("no base model: only an adapter over a model in memory brings its own base; pass `base`")
    if isinstance(base, str | Path):
        base, own = load(str(base), dtype=dtype)
        tokenizer = tokenizer or own
    if tokenizer is None:
        raise ModelError("a model in memory comes without its tokenizer; pass `tokenizer`")
    if adapter:
        return Pair(tokenizer, _adapted(base, str(tuned)))
    if isinstance(tuned, str | Path):
        _check_files(base, tokenizer, str(tuned))
        tuned = _whole(str(tuned), dtype).to(unwrap(base).device)
    if isinstance(tuned, PeftModel) and (base is None or unwrap(base) is unwrap(tuned)):
        return Pair(tokenizer, tuned)
    check_models(base, tuned)
    return Pair(tokenizer, tuned, base)


def check_models(base: nn.Module, tuned: nn.Module) -> None:
    """Raise ModelError unless every weight of one has its like in the other."""
    first, second = unwrap(base), unwrap(tuned)
    if first is second:
        raise ModelError("base and tuned are the same model in memory; pass two models, or a PEFT model over the base")
    if type(first) is not type(second):
        raise _apart(f"the base is a {type(first).__name__}, the tuned model a {type(second).__name__}")
    _check_configs(first.config.get_text_config(), second.config.get_text_config())
    if isinstance(tuned, PeftModel):
        return
    shapes = [{name: tuple(p.shape) for name, p in model.named_parameters()} for model in (first, second)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(name) != shapes[1].get(name):
            raise _apart(f"weight {name} has shape {shapes[0].get(name)} in the base and {shapes[1].get(name)} in the other")


def check_tokenizers(base: PreTrainedTokenizerBase, tuned: PreTrainedTokenizerBase) -> None:
    """Raise ModelError unless both read texts alike (added tokens that neither's prompts use are allowed)."""
    ids = [tokenizer(_PROBE)["input_ids"] for tokenizer in (base, tuned)]
    words = [tokenizer.get_vocab() for tokenizer in (base, tuned)]
    moved = [word for word, place in words[0].items() if words[1].get(word, place) != place]
    if ids[0] != ids[1] or moved:
        example = f", for example {moved[0]!r}" if moved else ""
        raise _apart(f"their tokenizers differ: {len(moved)} tokens have another number{example}")


def _check_files(base: nn.Module, tokenizer: PreTrainedTokenizerBase, tuned: str) -> None:
    """What the tuned folder's small files tell, before its weights are read."""
    try:
        config = AutoConfig.from_pretrained(tuned)
    except (OSError, ValueError) as error:
        raise ModelError(f"{tuned!r} cannot be opened as a model or adapter: {str(error).splitlines()[0]}") from error
    _check_configs(unwrap(base).config.get_text_config(), config.get_text_config())
    try:
        other = AutoTokenizer.from_pretrained(tuned)
    except (OSError, ValueError):
        return  # saved without one, as Trainer does: the base's is used
    check_tokenizers(tokenizer, other)


def _check_configs(base: Any, tuned: Any) -> None:
    if base.model_type != tuned.model_type:
        raise _apart(f"the base's architecture is {base.model_type}, the other's {tuned.model_type}")
    for name in _SHAPES:
        mine, other = getattr(base, name, None), getattr(tuned, name, None)
        if mine != other:
            raise _apart(f"{name} is {mine} in the base and {other} in the tuned model")


def _whole(folder: str, dtype: torch.dtype) -> Any:
    """Whole weights; training scripts often save them without a tokenizer, which is not needed here."""
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder!r} cannot be opened as a model: {str(error).strip().splitlines()[0]}") from error


def _adapted(base: nn.Module, folder: str) -> nn.Module:
    try:
        return PeftModel.from_pretrained(base, folder).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[min(1, len(lines) - 1)] if lines else type(error).__name__
        raise _apart(f"the adapter {folder} does not fit the base ({reason})") from error


def _apart(reason: str) -> ModelError:
    return ModelError(f"base and tuned model do not belong together: {reason}")
