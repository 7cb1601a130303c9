"""Whether two models belong together: architecture, shapes, tokenizer, and the base that an adapter was made for."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from instruction_vectors.errors import ModelError
from instruction_vectors.models.adapters import rewrites
from instruction_vectors.models.anatomy import unwrap

_PROBE = "Name the capital of the country.\nInput: France 1984\nOutput: Zürich, naïve"
_SHAPES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")


def check_models(base: nn.Module, tuned: nn.Module) -> None:
    """Raise ModelError unless every weight of one has its like in the other."""
    first, second = unwrap(base), unwrap(tuned)
    if first is second:
        raise ModelError("base and tuned are the same model in memory; pass two models, or a PEFT model over the base")
    if type(first) is not type(second):
        raise apart(f"the base is a {type(first).__name__}, the tuned model a {type(second).__name__}")
    check_configs(first.config.get_text_config(), second.config.get_text_config())
    if isinstance(tuned, PeftModel):
        return
    shapes = [{name: tuple(p.shape) for name, p in model.named_parameters()} for model in (first, second)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(name) != shapes[1].get(name):
            raise apart(f"weight {name} has shape {shapes[0].get(name)} in the base and {shapes[1].get(name)} in the other")


def check_tokenizers(base: PreTrainedTokenizerBase, tuned: PreTrainedTokenizerBase) -> None:
    """Raise ModelError unless both read texts alike (added tokens that neither's prompts use are allowed)."""
    ids = [tokenizer(_PROBE)["input_ids"] for tokenizer in (base, tuned)]
    words = [tokenizer.get_vocab() for tokenizer in (base, tuned)]
    moved = [word for word, place in words[0].items() if words[1].get(word, place) != place]
    if ids[0] != ids[1] or moved:
        example = f", for example {moved[0]!r}" if moved else ""
        raise apart(f"their tokenizers differ: {len(moved)} tokens have another number{example}")


def check_configs(base: Any, tuned: Any) -> None:
    """Raise ModelError unless both are one architecture of one shape."""
    if base.model_type != tuned.model_type:
        raise apart(f"the base's architecture is {base.model_type}, the other's {tuned.model_type}")
    for name in _SHAPES:
        mine, other = getattr(base, name, None), getattr(tuned, name, None)
        if mine != other:
            raise apart(f"{name} is {mine} in the base and {other} in the tuned model")


def check_adapter_files(base: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """What an adapter's small files tell: the base it names, how it began, and the tokenizer where one lies beside it."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        named, start = config.get("base_model_name_or_path"), config.get("init_lora_weights")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{str(folder)!r} cannot be opened as a model or adapter: {str(error).splitlines()[0]}") from error
    mine = getattr(unwrap(base).config, "_name_or_path", "")
    # Folders move, and a short name is a folder of the cache: only the last part of a name is its own.
    if named and mine and Path(named).name != Path(mine).name:
        raise apart(
            f"the adapter {folder} says that it was trained over {named!r}, the base is {mine!r}; name that base, or where both "
            "are the same weights, put the base's name into its adapter_config.json"
        )
    check_start(start)
    if (folder / "tokenizer_config.json").exists():
        check_tokenizers(tokenizer, AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


def check_start(start: Any) -> None:
    """Raise ModelError if an adapter began in a way for which PEFT changes the weights of its base (`init_lora_weights`)."""
    if rewrites(start):
        raise ModelError(
            f"the adapter was begun with init_lora_weights={start!r}, for which PEFT changes the weights of the base: without "
            "the adapter it is not what it was. Save the adapter as plain LoRA (`path_initial_model_for_weight_conversion` of "
            "save_pretrained), or merge it and pass the whole model"
        )


def check_adapter_weights(model: PeftModel, folder: Path) -> None:
    """Raise ModelError unless every LoRA matrix of the file found its place and every place its matrix.

    PEFT loads what fits and goes on.
    """
    file = folder / "adapter_model.safetensors"
    if not file.exists():
        return
    with safe_open(file, "pt") as saved:
        given = _matrices(saved.keys())
    places = _matrices(get_peft_model_state_dict(model, save_embedding_layers=False))
    if given != places:
        homeless, empty = given - places, places - given
        which = f"the base has no place for {min(homeless)}" if homeless else f"it has no weights for {min(empty)}"
        raise apart(f"the adapter {folder} was made for another model ({which})")


def _matrices(names: Iterable[str]) -> set[str]:
    return {name for name in names if ".lora_A." in name or ".lora_B." in name}


def apart(reason: str) -> ModelError:
    """The refusal of a pair, with its reason."""
    return ModelError(f"base and tuned model do not belong together: {reason}")
