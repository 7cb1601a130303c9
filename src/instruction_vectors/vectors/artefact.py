"""A vector as a folder: `vector.safetensors`, `config.json`, and a README card. Never a pickle."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from huggingface_hub.errors import HFValidationError, HTTPError
from safetensors import SafetensorError
from torch import Tensor

from instruction_vectors.errors import VectorError
from instruction_vectors.files import as_json, write_atomic
from instruction_vectors.vectors.vector import Head, InstructionVector
from instruction_vectors.version import __version__

WEIGHTS, CONFIG, CARD = "vector.safetensors", "config.json", "README.md"
FORMAT = 1

_CARD = """---
{front}---

# Instruction vector: {task}

Instruction: {instruction}

{count} heads of {architecture} `{model}`: {heads}.

```python
from instruction_vectors import InstructionVector, load

model, tokenizer = load({quoted})
vector = InstructionVector.from_pretrained({place})
with vector.applied(model):
    ...
```
"""


def save(vector: InstructionVector, folder: Path, place: str = "path/to/this/folder") -> None:
    """Write the artefact; `config.json` last, so that a folder that has one is complete.

    Args:
        vector: what is written.
        folder: where to.
        place: what the card says to read it from.
    """
    config = {
        "instruction_vectors": __version__,
        **dict(vector.metadata),
        "format": FORMAT,
        "heads": [list(head) for head in vector.heads],
        "layer": vector.layer,
    }
    try:
        contents = {
            WEIGHTS: safetensors.torch.save({"values": vector.values, "summed": vector.summed}),
            CARD: _card(vector, place).encode(),
            CONFIG: as_json(config).encode(),
        }
    except (TypeError, ValueError) as error:
        raise VectorError(f"the vector's metadata cannot be written as JSON ({error}); nothing was written") from error
    (folder / CONFIG).unlink(missing_ok=True)  # another vector's would go with these numbers if this were stopped
    for name, content in contents.items():
        write_atomic(folder / name, content)


def _card(vector: InstructionVector, place: str) -> str:
    facts = {name: str(vector.metadata.get(name) or "not recorded") for name in ("model", "task", "instruction", "architecture")}
    model = facts["model"]
    front: dict[str, Any] = {"library_name": "instruction-vectors", "tags": ["instruction-vector"]}
    # The hub refuses a card whose base model cannot be one of its own, such as a folder here.
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII) and not Path(model).exists():
        front["base_model"] = model
    heads = ", ".join(f"({layer}, {head})" for layer, head in vector.heads)
    written = yaml.safe_dump(front, sort_keys=False)
    quoted = {"quoted": json.dumps(model), "place": json.dumps(place)}
    return _CARD.format(front=written, **facts, **quoted, heads=heads, count=len(vector.heads))


def read(name_or_path: str) -> InstructionVector:
    """Read an artefact from a folder or, failing that, from the hub.

    Raises:
        VectorError: nothing there, or not a vector; the message names the file that is missing, unreadable or damaged.
    """
    folder = Path(name_or_path)
    with _named(folder, CONFIG):
        here = folder.exists()
    if not here:
        folder = _from_hub(name_or_path)
    with _named(folder, CONFIG):
        heads, layer, metadata = _read_config(folder / CONFIG)
    with _named(folder, WEIGHTS):
        values, summed = _read_tensors(folder / WEIGHTS)
    try:
        return InstructionVector(heads, values, summed, layer, metadata)
    except VectorError as error:
        raise VectorError(f"{folder} is not an instruction vector: {CONFIG} and {WEIGHTS} make none ({error})") from error


@contextmanager
def _named(folder: Path, file: str) -> Iterator[None]:
    """Say which file of a folder is missing, unreadable or damaged, and how."""
    refused = f"{folder} is not an instruction vector: "
    try:
        yield
    except FileNotFoundError as error:
        raise VectorError(f"{refused}it has no {file}") from error
    except OSError as error:
        raise VectorError(f"{folder / file} cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | SafetensorError) else str(error)
        raise VectorError(f"{refused}{file} is damaged ({reason}); copy it again") from error


def _read_config(path: Path) -> tuple[tuple[Head, ...], int | None, dict[str, Any]]:
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise TypeError(f"expected names and values, got {type(config).__name__}")
    if index(config.pop("format")) > FORMAT:
        raise VectorError(f"{path} was written by a newer version; upgrade instruction-vectors")
    heads = tuple((index(layer), index(head)) for layer, head in config.pop("heads"))
    layer = config.pop("layer")
    if layer is not None and index(layer) < 0:
        raise ValueError(f"layer {layer} is below 0")
    if not isinstance(config.get("shape", {}), dict):
        raise TypeError("shape must hold names and sizes")
    return heads, layer, config


def _read_tensors(path: Path) -> tuple[Tensor, Tensor]:
    tensors = safetensors.torch.load(path.read_bytes())
    for name in ("values", "summed"):
        if not tensors[name].is_floating_point() or not torch.isfinite(tensors[name].float()).all():
            raise ValueError(f"{name} holds numbers that are not finite, or no numbers with a point")
    return tensors["values"], tensors["summed"]


def push(vector: InstructionVector, repo_id: str, *, token: str | bool | None = None, **options: Any) -> str:
    """Upload the artefact to the hub.

    Args:
        vector: what is uploaded.
        repo_id: `owner/name`; made if need be.
        token: of the hub; the one of `hf auth login` by default.
        options: of `huggingface_hub.HfApi.create_repo`, such as `private=True`.

    Raises:
        VectorError: the hub refused, or could not be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(vector, Path(folder), place=repo_id)
        try:
            api.create_repo(repo_id, token=token, exist_ok=True, **options)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, token=token))
        except (OSError, ValueError, HTTPError) as error:
            raise VectorError(
                f"the vector could not be uploaded as {repo_id!r} ({_first_line(error)}); check the name (owner/name) and the "
                "network, and log in with `hf auth login`, or pass `token`, as somebody who may write there"
            ) from error


def _from_hub(repo_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except (OSError, HFValidationError, HTTPError) as error:
        raise VectorError(
            f"{repo_id!r} is no folder, and no vector of that name could be had from the hub ({_first_line(error)}); check the "
            "name, the network and, for a private one, `hf auth login`"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
