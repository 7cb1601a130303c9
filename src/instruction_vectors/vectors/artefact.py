"""A vector as a folder: `vector.safetensors`, `config.json`, and a README card. Never a pickle."""

import json
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from instruction_vectors.errors import VectorError
from instruction_vectors.files import write_atomic, write_json
from instruction_vectors.vectors.vector import InstructionVector
from instruction_vectors.version import __version__

WEIGHTS, CONFIG, CARD = "vector.safetensors", "config.json", "README.md"
FORMAT = 1

_CARD = """---
library_name: instruction-vectors
tags: [instruction-vector]
base_model: {model}
---

# Instruction vector: {task}

Instruction: {instruction}

{count} heads of {architecture} `{model}`: {heads}.

```python
from instruction_vectors import InstructionVector, load

model, tokenizer = load("{model}")
vector = InstructionVector.from_pretrained("path/to/this/folder")
with vector.applied(model):
    ...
```
"""


def save(vector: InstructionVector, folder: Path) -> None:
    """Write the artefact; `config.json` last, so that a folder that has one is complete."""
    tensors = {"values": vector.values.contiguous(), "summed": vector.summed.contiguous()}
    write_atomic(folder / WEIGHTS, safetensors.torch.save(tensors))
    names = ("model", "task", "instruction", "architecture")
    facts = {name: vector.metadata.get(name, "not recorded") for name in names}
    heads = ", ".join(f"({layer}, {head})" for layer, head in vector.heads)
    write_atomic(folder / CARD, _CARD.format(**facts, heads=heads, count=len(vector.heads)))
    config = {
        "instruction_vectors": __version__,
        **dict(vector.metadata),
        "format": FORMAT,
        "heads": [list(head) for head in vector.heads],
        "layer": vector.layer,
    }
    write_json(folder / CONFIG, config)


def read(name_or_path: str) -> InstructionVector:
    """Read an artefact from a folder or, failing that, from the hub.

    Raises:
        VectorError: nothing there, or not a vector.
    """
    folder = Path(name_or_path)
    if not folder.exists():
        folder = _from_hub(name_or_path)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        heads = tuple((int(layer), int(head)) for layer, head in config.pop("heads"))
        layer = config.pop("layer")
        if layer is not None and not isinstance(layer, int):
            raise TypeError(f"layer {layer!r} is not a number")
        if config.pop("format") > FORMAT:
            raise VectorError(f"{folder} was written by a newer version; upgrade instruction-vectors")
        return InstructionVector(heads, tensors["values"], tensors["summed"], layer, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise VectorError(f"{folder} is not an instruction vector ({type(error).__name__}: {error})") from error


def push(vector: InstructionVector, repo_id: str, **kwargs: Any) -> str:
    """Upload the artefact to the hub."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, exist_ok=True, **kwargs)
    with tempfile.TemporaryDirectory() as folder:
        save(vector, Path(folder))
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def _from_hub(repo_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except (OSError, HFValidationError) as error:
        raise VectorError(f"{repo_id!r} is no folder, and no vector of that name could be had from the hub: {error}") from error
