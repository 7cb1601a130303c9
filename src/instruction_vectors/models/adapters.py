"""Adapters over a model: the weights that are not theirs, and what they add turned down."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from instruction_vectors.errors import ModelError, TrainingError
from instruction_vectors.files import read_json

if TYPE_CHECKING:  # PEFT takes seconds to import, and models without adapters do without
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer


def tuner_layer_type() -> "type[BaseTunerLayer]":
    """What PEFT's adapted layers are."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return BaseTunerLayer


def adaptable(model: nn.Module, names: Iterable[str]) -> list[tuple[str, nn.Module]]:
    """The modules that PEFT would put adapters on, given names or their last parts; PEFT itself minds only if it finds none.

    Names of experts' matrices that transformers has joined since are told PEFT's way, which finds them still.

    Raises:
        TrainingError: nothing is called by one of the names.
    """
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config = LoraConfig(target_modules=list(names))
    convert_peft_config_for_transformers(config, model, None)
    found: dict[str, nn.Module] = {}
    strangers = []
    for wanted in sorted(config.target_modules or ()):
        own = {name: module for name, module in model.named_modules() if f".{name}".endswith(f".{wanted}")}
        if not own:
            strangers.append(repr(wanted))
        found |= own
    if strangers:
        raise TrainingError(f"the model has no module {', '.join(strangers)}; name modules with target_modules")
    return list(found.items())


_OTHERS = {"modules_to_save", "adaption_prompt", "adaption_gate"}
"""Adapters' weights that no tuner layer lists."""
_WRAPPERS = {"base_layer", "original_module", "token_adapter", "parametrizations", "original"}
"""What PEFT, or a parametrisation, puts into the name of a weight that it wraps."""


def base_weights(model: nn.Module, more: Iterable[tuple[str, Tensor]] = ()) -> Iterator[tuple[str, Tensor]]:
    """The parameters that are no adapter's (and `more` tensors by name), named as they are without adapters."""
    tuners = [module for module in model.modules() if isinstance(module, tuner_layer_type())]
    adapters = {*_OTHERS, *(name for tuner in tuners for name in tuner.adapter_layer_names)}
    for name, tensor in (*model.named_parameters(), *more):
        parts = name.split(".")
        if adapters.isdisjoint(parts):
            yield ".".join(part for part in parts if part not in _WRAPPERS), tensor


_REWRITING = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of LoRA's `init_lora_weights` with which PEFT takes the adapter's start off the model's own weights, or rounds these."""


def rewritten_by(model: nn.Module) -> str | None:
    """The start of an adapter for which PEFT changed the weights under it, so that without it they are not the original's."""
    starts = (getattr(config, "init_lora_weights", None) for config in getattr(model, "peft_config", {}).values())
    return next(filter(rewrites, starts), None)


def rewrites(start: Any) -> bool:
    """Whether a value of `init_lora_weights` is one of those."""
    return isinstance(start, str) and start.lower().startswith(_REWRITING)


SCALE = "scale.json"
"""Of an adapter's folder: `{"scale": s}`, where the model to use is not `W + BA` but `W + s BA`."""
LEARNT = "learnt.safetensors"
"""Of an adapter's folder: what its matrices had learnt before the adapter was made, which PEFT does not read."""
_BESIDE = ("task[0-9]*", "start")
"""Adapters that a method keeps in folders beside its first: one a task, or the one that takes the first's start off."""


def complete(model: "PeftModel", folder: Path) -> "PeftModel":
    """What belongs to the adapter just loaded from `folder`: those beside it, and the scale that it is used at.

    Raises:
        ModelError: a folder of method `osf` after its second task or later.
    """
    if (folder / LEARNT).exists():
        raise ModelError(
            f"{folder} holds the last task's part alone of what method 'osf' learnt; `iv export CELL --to model` writes the whole"
        )
    later = sorted(path.name for pattern in _BESIDE for path in folder.glob(pattern) if (path / "adapter_config.json").exists())
    for name in later:
        model.load_adapter(str(folder / name), name)
    if later:
        model.base_model.set_adapter([*model.active_adapters, *later])
    if (folder / SCALE).exists():
        keep = read_json(folder / SCALE)["scale"]
        for layer in scaled_layers(model):
            layer.scaling.update({name: value * keep for name, value in layer.scaling.items()})
    return model


def has_adapters(model: nn.Module) -> bool:
    """Whether any layer is adapted."""
    return any(isinstance(module, tuner_layer_type()) for module in model.modules())


def scaled_layers(model: nn.Module) -> "list[BaseTunerLayer]":
    """The adapted layers that scale what they add (LoRA)."""
    return [m for m in model.modules() if isinstance(m, tuner_layer_type()) and isinstance(getattr(m, "scaling", None), dict)]


def has_magnitudes(layer: nn.Module) -> bool:
    """Whether a LoRA layer also trains the magnitudes of what it adds to (DoRA, Liu et al. 2402.09353)."""
    return len(getattr(layer, "lora_magnitude_vector", ())) > 0


def only_scaled(model: "PeftModel") -> bool:
    """Whether all that adapters change is added by layers that scale it.

    Not so with biases, whole modules or tokens trained beside them (`bias`, `modules_to_save`, `trainable_token_indices`),
    with DoRA's magnitudes, and with kinds that add nothing (IA3).
    """
    from peft.utils.other import AuxiliaryTrainingWrapper

    adding = scaled_layers(model)
    others = [m for m in model.modules() if isinstance(m, (tuner_layer_type(), AuxiliaryTrainingWrapper)) and m not in adding]
    biases = any(getattr(config, "bias", "none") not in ("none", False) for config in model.peft_config.values())
    return bool(adding) and not (others or biases or any(map(has_magnitudes, adding)))


@contextmanager
def scaled(model: nn.Module, keep: float) -> Iterator[None]:
    """`W + keep · BA` for the length of a `with` block; linear, so exact."""
    before = [(layer, dict(layer.scaling)) for layer in scaled_layers(model)]
    for layer, scaling in before:
        layer.scaling.update({name: value * keep for name, value in scaling.items()})
    try:
        yield
    finally:
        for layer, scaling in before:
            layer.scaling.update(scaling)
