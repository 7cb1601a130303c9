"""The summed vector in other tools' formats. They add it at every token, where ours goes in at the last of the input alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from instruction_vectors.errors import VectorError, install_extra
from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.vectors.vector import InstructionVector

_NO_SUM = "{} normalises what heads write, so there is no plain sum to export"


def export_gguf(vector: InstructionVector, path: str | Path, *, layer: int | None = None, scale: float = 1.0) -> None:
    """Write a GGUF control vector, as `llama-server --control-vector FILE` reads it.

    Format: llama.cpp's `common_control_vector_load`: one float32 tensor `direction.N` is added to what layer N (from 0) puts
    out; layer 0 cannot have one. Needs the extra `gguf`.

    Args:
        vector: of a model whose summed vector may be added as it is.
        path: the file.
        layer: after which it is added; the vector's own if left out.
        scale: it is multiplied by this.

    Raises:
        VectorError: no layer, layer 0 or one that the model does not have, a model without a plain sum, or no package `gguf`.
    """
    layer = _layer_of(vector, layer)
    if layer == 0:
        raise VectorError("a GGUF control vector has no direction for layer 0; choose a later layer")
    if layer >= (layers := vector.metadata.get("shape", {}).get("n_layers", layer + 1)):
        raise VectorError(f"this vector would be added after layer {layer}; its model has {layers} layers")
    if not vector.metadata.get("adds_writes", True):
        raise VectorError(_NO_SUM.format(vector.metadata.get("architecture", "the vector's model")))
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise VectorError(f"a GGUF file needs the gguf extra; run {install_extra('gguf')}") from error

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    writer = GGUFWriter(part, "controlvector")
    writer.add_string(
        "controlvector.model_hint", str(vector.metadata.get("architecture", "")).removesuffix("ForCausalLM").lower()
    )
    writer.add_uint32("controlvector.layer_count", 1)
    writer.add_tensor(f"direction.{layer}", (vector.summed * scale).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)


def export_lm_eval(
    vector: InstructionVector, model: nn.Module, path: str | Path, *, layer: int | None = None, scale: float = 1.0
) -> None:
    """Write a steering file for lm-evaluation-harness: `lm_eval --model steered --model_args pretrained=...,steer_path=FILE`.

    The harness reads ready vectors from a `torch.save` file only, so this is one, of tensors, numbers and words.

    Args:
        vector: what is written.
        model: the model it is for, which knows what its layers are called.
        path: the file; its name ends in `.pt`.
        layer: after which it is added; the vector's own if left out.
        scale: the steering coefficient.

    Raises:
        VectorError: the vector does not fit the model or has no layer, a model without a plain sum, or another ending.
    """
    path, layer = Path(path), _layer_of(vector, layer)
    if path.suffix != ".pt":
        raise VectorError(f"lm-eval takes a steering file for one only if its name ends in .pt, not {path.name!r}")
    placed = replace(vector, layer=layer)
    placed.check_fits(model)
    anatomy = anatomy_of(model)
    if not anatomy.adds_writes:
        raise VectorError(_NO_SUM.format(type(anatomy.causal_lm).__name__))
    names = {module: name for name, module in anatomy.causal_lm.base_model.named_modules()}
    steering: dict[str, dict[str, Any]] = {
        names[anatomy.layers[layer]]: {
            "steering_vector": vector.summed.clone(),
            "steering_coefficient": float(scale),
            "action": "add",
            "bias": None,
            "head_index": None,
        }
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(steering, part)
    part.replace(path)


def _layer_of(vector: InstructionVector, layer: int | None) -> int:
    chosen = vector.layer if layer is None else layer
    if chosen is None:
        raise VectorError("a summed vector is added after one layer, and none was chosen: pass `layer` (--layer)")
    if chosen < 0:
        raise VectorError(f"layer must be at least 0, got {chosen}")
    return chosen
