"""Where a model's attention heads live: the only module that knows how an architecture is laid out.

Nothing here looks at a model's name. The decoder layers are the `ModuleList` whose length the config states; the output
projection of attention (`o_proj` below, whatever the family calls it) is the first linear map in a layer whose input at
a token depends on earlier tokens, since everything before it works token by token. Both are then checked numerically.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast
from transformers.pytorch_utils import Conv1D

from instruction_vectors.errors import AnatomyError
from instruction_vectors.models.adapters import base_weights, tuner_layer_type

_PROBE_TOKENS = 4
_REMEMBERED = "_instruction_vectors_anatomy"
_TF32 = 2e-2
_COARSE = 1e-1
"""What is allowed in types coarser than float16, and of maps that round what they read to 8 bits."""


def _multiplies_in_tf32() -> bool:
    """Whether CUDA's matrix products keep 10 of float32's 23 bits, as `TrainingArguments(tf32=True)` asks for."""
    products = torch.backends.cuda.matmul
    return products.fp32_precision == "tf32" if hasattr(products, "fp32_precision") else bool(products.allow_tf32)


def tolerance(dtype: torch.dtype, device: torch.device) -> float:
    """How far two ways to compute the same activation may lie apart, relative to its size."""
    if dtype == torch.float32 and device.type == "cuda" and _multiplies_in_tf32():
        return _TF32
    # Many families normalise and take softmax in float32 whatever the model's own type, hence no less for float64.
    return {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 5e-2}.get(dtype, _COARSE)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The attention heads of one model.

    A head's output `z_{lj}` is query head j's slice of the input of `o_proj` at layer l (Todd et al. 2310.15213,
    §2.1). Layers are counted among the layers that have attention; `layer_numbers` maps them to the model's own count.
    """

    causal_lm: PreTrainedModel
    backbone: nn.Module
    layers: tuple[nn.Module, ...]
    o_projs: tuple[nn.Module, ...]
    o_proj_path: str
    layer_numbers: tuple[int, ...]
    n_heads: int
    head_dim: int
    hidden_size: int

    @property
    def n_layers(self) -> int:
        """Number of layers with attention."""
        return len(self.layers)

    @property
    def device(self) -> torch.device:
        """Device of the first layer's weights."""
        return next(self.layers[0].parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type in which activations run (weights alone may have one of a single byte)."""
        own = base_weights(self.layers[0])
        return next(p.dtype for _, p in own if p.is_floating_point() and p.dtype.itemsize > 1)

    @cached_property
    def adds_writes(self) -> bool:
        """Whether a head's write reaches the residual stream as it is (Gemma 2 and 3, OLMo 2 normalise it first)."""
        return _adds_writes(self)

    def is_current(self) -> bool:
        """Whether the modules are still those of the model (adding or merging an adapter replaces some)."""
        return all(_submodule(layer, self.o_proj_path) is o for layer, o in zip(self.layers, self.o_projs, strict=True))

    def write(self, layer: int, head: int, value: Float[Tensor, "*batch head_dim"]) -> Float[Tensor, "*batch hidden"]:
        """What a head's output adds to the residual stream: `W_O^{lj} z_{lj}`, without `o_proj`'s bias, on `value`'s device.

        Runs the projection itself rather than reading its weight, so that transposed (Conv1D), quantised and
        adapter-wrapped projections all give what the model would compute.
        """
        o_proj = self.o_projs[layer]
        heads = value.new_zeros(*value.shape[:-1], self.n_heads, self.head_dim)
        heads[..., head, :] = value
        own = next(self.layers[layer].parameters()).device
        device = self.device if own.type == "meta" else own  # offloaded weights come back for the call alone
        flat = heads.view(-1, self.n_heads * self.head_dim).to(device, self.dtype)  # some quantised maps take rows only
        with evaluating(o_proj):
            return (o_proj(flat) - o_proj(torch.zeros_like(flat))).view(*value.shape[:-1], -1).to(value.device)

    def logits(self, hidden: Float[Tensor, "batch seq hidden"]) -> Float[Tensor, "batch seq vocabulary"]:
        """Next-token logits of final hidden states through the model's own head path, scales and soft-caps included.

        The causal language model runs as it is, over a backbone that answers with `hidden` at once.
        """
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        with _answering(self.backbone, hidden):
            return self.causal_lm(input_ids=ids, use_cache=False).logits


class _Answer(MoeModelOutputWithPast):
    """A backbone's output of which only the hidden states are wanted."""

    cross_attentions = None  # some families ask for them


@contextmanager
def _answering(backbone: nn.Module, hidden: Tensor) -> Iterator[None]:
    own = vars(backbone).get("forward")  # where something else has been put in its place: compiled, or offloading
    backbone.forward = lambda *args, **kwargs: _Answer(last_hidden_state=hidden)
    try:
        yield
    finally:
        del backbone.forward
        if own is not None:
            backbone.forward = own


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode for the length of a `with` block; afterwards every submodule has the mode it had."""
    modes = {each: each.training for each in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode


def evaluating(module: nn.Module) -> AbstractContextManager[None]:
    """`in_mode` for evaluation."""
    return in_mode(module, training=False)


def anatomy_of(model: nn.Module) -> Anatomy:
    """The anatomy of a decoder-only model, possibly wrapped by PEFT or DDP; found and verified once, then remembered.

    Raises:
        AnatomyError: the structure was not recognised, or a self-check failed.
    """
    causal_lm = unwrap(model)
    found: Anatomy | None = getattr(causal_lm, _REMEMBERED, None)
    if found is None or not found.is_current():
        with evaluating(causal_lm), _quantisation_named(causal_lm):
            found = _find(causal_lm)
            _self_check(found)
            _ = found.adds_writes  # measured now: later it could be asked for the first time under an intervention
        # On the model itself, so that it lives as long as the model and not longer.
        setattr(causal_lm, _REMEMBERED, found)
    return found


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The transformers causal language model inside PEFT, DDP or `torch.compile` wrappers.

    Raises:
        AnatomyError: there is none, or it is not the whole model: PEFT puts learnt prompts or prefixes before what it reads.
    """
    for module in model.modules():
        if any(getattr(config, "is_prompt_learning", False) for config in getattr(module, "peft_config", {}).values()):
            raise AnatomyError(
                f"{type(model).__name__} learns a prompt or prefix, which lies outside the layers and would go unseen; take "
                "LoRA, or another adapter that changes layers"
            )
        if isinstance(module, PreTrainedModel) and module.get_output_embeddings() is not None:
            return module
    raise AnatomyError(
        f"{type(model).__name__} holds no transformers causal language model; load it with "
        "AutoModelForCausalLM or instruction_vectors.load"
    )


@contextmanager
def _quantisation_named(causal_lm: PreTrainedModel) -> Iterator[None]:
    """Say of a quantised model that is refused that its weights may be the reason."""
    try:
        yield
    except AnatomyError as error:
        if not (config := _quantisation(causal_lm)):
            raise
        method = config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)
        raise AnatomyError(
            f"{error} (weights quantised by {getattr(method, 'value', method)}: it works where every projection stays a module "
            "of its own, as with bitsandbytes in 4 and 8 bits, and computes in the model's type: try bfloat16)"
        ) from error


def _quantisation(causal_lm: PreTrainedModel) -> Any:
    return getattr(causal_lm.config, "quantization_config", None)


def text_config(model: PreTrainedModel) -> Any:
    """The config of the language part of a model (multimodal configs nest it)."""
    return model.config.get_text_config()


def _find(causal_lm: PreTrainedModel) -> Anatomy:
    config = text_config(causal_lm)
    if getattr(causal_lm.config, "is_encoder_decoder", False):
        raise AnatomyError(f"{type(causal_lm).__name__} is an encoder-decoder model; only decoder-only models are supported")
    if (causal_lm.tp_size or 1) > 1:
        raise AnatomyError(
            f"this {type(causal_lm).__name__} is split over {causal_lm.tp_size} devices by tensor parallelism, so no process "
            "holds all of a layer's heads; load it without `tp_plan` (`device_map='auto'` puts whole layers on devices)"
        )
    backbone, layers = _decoder_layers(causal_lm, config.num_hidden_layers)
    types = getattr(config, "layer_types", None) or ["full_attention"] * len(layers)
    if "attention" not in types[0] or "linear" in types[0]:
        raise AnatomyError(f"the first layer of {type(causal_lm).__name__} is {types[0]!r}, not softmax attention; unsupported")
    path, width = _locate_o_proj(causal_lm, layers[0])
    n_heads = config.num_attention_heads
    if not isinstance(n_heads, int) or width % n_heads:
        raise AnatomyError(
            f"{type(causal_lm).__name__}: attention output width {width} does not divide into {n_heads} heads "
            "(ragged or per-layer head counts are not supported)"
        )
    numbered = [(i, layer, _submodule(layer, path)) for i, layer in enumerate(layers)]
    with_attention = [(i, layer, o_proj) for i, layer, o_proj in numbered if o_proj is not None]
    return Anatomy(
        causal_lm=causal_lm,
        backbone=backbone,
        layers=tuple(layer for _, layer, _ in with_attention),
        o_projs=tuple(o_proj for _, _, o_proj in with_attention),
        o_proj_path=path,
        layer_numbers=tuple(i for i, _, _ in with_attention),
        n_heads=n_heads,
        head_dim=width // n_heads,
        hidden_size=config.hidden_size,
    )


def _decoder_layers(causal_lm: PreTrainedModel, count: int) -> tuple[nn.Module, nn.ModuleList]:
    # The decoder first, since a part for images may have as many layers; but some call their head that.
    for module in (*causal_lm.get_decoder().modules(), *causal_lm.modules()):
        for child in module.children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, child
    raise AnatomyError(f"{type(causal_lm).__name__}: found no list of {count} decoder layers")


def _linear_maps(layer: nn.Module, quantised: bool) -> Iterator[tuple[str, nn.Module]]:
    """Linear maps of a layer by path, an adapter's wrapper standing for the map inside it.

    Quantisation has map classes of its own, so there every module with none inside may be one.
    """
    wrapped: list[str] = []
    for path, module in layer.named_modules():
        if any(path.startswith(f"{outer}.") for outer in wrapped):
            continue
        if isinstance(module, tuner_layer_type()):
            wrapped.append(path)
            yield path, module
        elif isinstance(module, nn.Linear | Conv1D) or (quantised and next(module.children(), None) is None):
            yield path, module


def _is_linear(module: nn.Module, value: Float[Tensor, " width"]) -> bool:
    """Whether a module of any class maps a row linearly, a constant aside, and mixes its features (no norm, no activation)."""
    if isinstance(module, nn.Linear | Conv1D | tuner_layer_type()):
        return True
    alone = torch.zeros_like(value)
    alone[value.abs().argmax()] = value.abs().max()
    try:
        zero, once, other, part = module(torch.stack([torch.zeros_like(value), value, -2 * value, alone]))
    except Exception:  # whatever a module does that is not called with rows alone
        return False
    once, other, part = once - zero, other - zero, part - zero
    linear = (other + 2 * once).abs().max() <= _COARSE * once.abs().max()
    return bool(linear and part.count_nonzero() > 1)


def _submodule(layer: nn.Module, path: str) -> nn.Module | None:
    try:
        return layer.get_submodule(path)
    except AttributeError:
        return None


@torch.no_grad()
def _locate_o_proj(causal_lm: PreTrainedModel, layer: nn.Module) -> tuple[str, int]:
    """Path in the layer, and input width, of the first linear map whose input mixes tokens."""
    maps = dict(_linear_maps(layer, quantised=_quantisation(causal_lm) is not None))
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    for seen, start in ((first, 0), (second, 1)):
        handles = [module.register_forward_pre_hook(_recorder(seen, path), with_kwargs=True) for path, module in maps.items()]
        try:
            _probe(causal_lm, start)
        finally:
            for handle in handles:
                handle.remove()
    for path, value in first.items():
        mixes = path in second and value.shape == second[path].shape and not torch.equal(value, second[path])
        if mixes and _is_linear(maps[path], value):
            return path, value.shape[-1]
    raise AnatomyError(f"{type(causal_lm).__name__}: found no attention output projection in {type(layer).__name__}")


def _recorder(seen: dict[str, Tensor], path: str) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        value = args[0] if args else next(iter(kwargs.values()), None)
        # A map called per expert or per branch may see other tokens; only the last token's row is compared.
        if isinstance(value, Tensor) and value.dim():
            seen.setdefault(path, value.reshape(-1, value.shape[-1])[-1].clone())

    return hook


def _probe(causal_lm: PreTrainedModel, first_token: int = 0, last_token: int = 2) -> Float[Tensor, "seq vocabulary"]:
    """Logits of a few tokens, of which all but the first and the last are fixed."""
    vocabulary = text_config(causal_lm).vocab_size
    ids = torch.arange(2, 2 + _PROBE_TOKENS, device=causal_lm.get_input_embeddings().weight.device) % vocabulary
    ids[0], ids[-1] = first_token, last_token
    try:
        return causal_lm(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], use_cache=False).logits[0]
    except RuntimeError as error:
        types = {str(weight.dtype) for weight in causal_lm.parameters() if weight.is_floating_point()}
        if len(types) < 2 or "type" not in str(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise AnatomyError(
            f"{type(causal_lm).__name__} does not run with weights of {' and '.join(sorted(types))} but under autocast; give all "
            f"one type (model.to(torch.bfloat16)): {error}"
        ) from error


@torch.no_grad()
def _self_check(anatomy: Anatomy) -> None:
    """Slices times `W_O` plus bias must sum to what `o_proj` puts out, at every layer, on a real forward."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def observer(index: int) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
            seen[index] = (args[0] if args else next(iter(kwargs.values())), output)

        return hook

    handles = [o.register_forward_hook(observer(i), with_kwargs=True) for i, o in enumerate(anatomy.o_projs)]
    try:
        logits = _probe(anatomy.causal_lm)
    finally:
        for handle in handles:
            handle.remove()
    moved = (logits[0] - _probe(anatomy.causal_lm, last_token=3)[0]).abs().max()
    if moved > _rounding(anatomy, 0) * logits[0].abs().max():
        raise AnatomyError(f"{type(anatomy.causal_lm).__name__} lets tokens see later ones: not a causal language model")
    if len(seen) != anatomy.n_layers:
        raise AnatomyError(f"only {len(seen)} of {anatomy.n_layers} attention output projections ran in a forward pass")
    for layer, (value, output) in seen.items():
        value, output = value.reshape(-1, value.shape[-1])[-1], output.reshape(-1, output.shape[-1])[-1]
        if value.shape[-1] != anatomy.n_heads * anatomy.head_dim or output.shape[-1] != anatomy.hidden_size:
            raise AnatomyError(f"layer {layer}: attention output projection has shape {value.shape[-1]}→{output.shape[-1]}")
        parts = torch.block_diag(*value.unflatten(-1, (anatomy.n_heads, anatomy.head_dim)))
        bias = anatomy.o_projs[layer](torch.zeros_like(value[None]))[0]  # some quantised maps take rows only
        total = (anatomy.o_projs[layer](parts.flatten(1)) - bias).sum(0) + bias
        allowed = _rounding(anatomy, layer) * output.abs().max()
        if not torch.isfinite(output).all() or (total - output).abs().max() > allowed:
            raise AnatomyError(
                f"layer {layer}: the heads' parts do not sum to the attention output (off by "
                f"{(total - output).abs().max():.2e}); this architecture is not supported yet"
            )


def _rounding(anatomy: Anatomy, layer: int) -> float:
    """What activations allow, or more: maps of 8-bit integers round what they read, too."""
    weight = getattr(anatomy.o_projs[layer], "weight", None)
    rounds = isinstance(weight, Tensor) and weight.dtype == torch.int8
    return max(tolerance(anatomy.dtype, anatomy.device), _COARSE if rounds else 0)


@torch.no_grad()
def _adds_writes(anatomy: Anatomy) -> bool:
    """Twice the attention output must move the stream; under a norm only its direction counts."""
    seen: dict[float, Tensor] = {}
    for factor in (0.0, 1.0, 2.0):

        def multiply(module: nn.Module, args: tuple, output: Tensor, factor: float = factor) -> Tensor:
            return output * factor

        def keep(module: nn.Module, args: tuple, output: Tensor | tuple, factor: float = factor) -> None:
            seen[factor] = output[0] if isinstance(output, tuple) else output

        handles = [anatomy.o_projs[0].register_forward_hook(multiply), anatomy.layers[0].register_forward_hook(keep)]
        try:
            with evaluating(anatomy.causal_lm):
                _probe(anatomy.causal_lm)
        finally:
            for handle in handles:
                handle.remove()
    return bool((seen[2.0] - seen[1.0]).norm() > 0.1 * (seen[1.0] - seen[0.0]).norm())
