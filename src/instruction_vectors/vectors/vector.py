r"""The instruction vector: what a few heads write when an instruction is being followed.

$$\theta_c = \sum_{(l,j) \in S} W_O^{lj} \bar h_{lj}^c$$

(Todd et al. 2310.15213, eq. 5; Jiang et al. 2406.12227, §4.) The heads' mean outputs are kept beside the sum, since the
distributed intervention adds each at its own head.
"""

import hashlib
import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from operator import index
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from instruction_vectors.errors import VectorError
from instruction_vectors.models.anatomy import Anatomy, anatomy_of, text_config
from instruction_vectors.models.loading import last_fingerprint, tokenizer_fingerprint
from instruction_vectors.vectors.injection import Mode, Positions, applied

logger = logging.getLogger(__name__)

Head = tuple[int, int]

_COMPARED: "weakref.WeakKeyDictionary[PreTrainedModel, set[str]]" = weakref.WeakKeyDictionary()
"""Fingerprints of the models whose vectors each model has met: its own may change later, when it is trained."""


def shape_of(anatomy: Anatomy) -> dict[str, int]:
    """The sizes of a model that fine-tuning leaves as they are."""
    sizes = ("n_layers", "n_heads", "head_dim", "hidden_size")
    return {name: getattr(anatomy, name) for name in sizes} | {"vocab_size": text_config(anatomy.causal_lm).vocab_size}


def as_heads(heads: Iterable[Sequence[int]]) -> tuple[Head, ...]:
    """Heads as they are compared, whatever held the two numbers of each (JSON knows lists alone).

    Raises:
        VectorError: other than pairs of whole numbers.
    """
    try:
        return tuple((index(layer), index(head)) for layer, head in heads)
    except (TypeError, ValueError) as error:
        raise VectorError(f"heads must be pairs (layer, head), got {heads!r}") from error


def check_heads(heads: Iterable[Sequence[int]], anatomy: Anatomy) -> tuple[Head, ...]:
    """The heads, all of which the model has.

    Raises:
        VectorError: there is no head, or one that does not exist.
    """
    several = as_heads(heads)
    for layer, head in several:
        if not (0 <= layer < anatomy.n_layers and 0 <= head < anatomy.n_heads):
            raise VectorError(f"head {(layer, head)} does not exist: the model has {anatomy.n_layers}×{anatomy.n_heads}")
    if not several:
        raise VectorError("an instruction vector needs at least one head")
    return several


@dataclass(frozen=True, eq=False)
class InstructionVector:
    """An instruction vector θ_c = Σ_S W_O^{lj} h̄_{lj} (Todd et al. 2310.15213; Jiang et al. 2502.11019, App. A), immutable.

    Attributes:
        heads: the causal heads S as `(layer, head)`.
        values: `[head, head_dim]`, the mean output of each head of S at the last input token.
        summed: `[hidden]`, their sum in the residual stream, θ_c.
        layer: where the summed vector is added (after that layer); None if no layer was chosen.
        metadata: what it was made from (model, fingerprints, task, versions, seed), and the mean effect of each head (`scores`).
    """

    heads: tuple[Head, ...]
    values: Float[Tensor, "head head_dim"]
    summed: Float[Tensor, " hidden"]
    layer: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", as_heads(self.heads))
        for name in ("values", "summed"):  # wherever and in whatever type they were computed
            given = getattr(self, name)
            if not isinstance(given, Tensor) or given.is_meta or not given.is_floating_point():
                raise VectorError(f"{name} must be a tensor of numbers with a point")
            object.__setattr__(self, name, given.detach().to("cpu", torch.float32, copy=True).contiguous())
            if not torch.isfinite(getattr(self, name)).all():
                raise VectorError(f"{name} holds numbers that are not finite in float32")
        if self.values.dim() != 2 or self.summed.dim() != 1:
            shapes = f"{list(self.values.shape)} and {list(self.summed.shape)}"
            raise VectorError(f"values must be [head, head_dim] and their sum [hidden], got shapes {shapes}")
        if not self.heads:
            raise VectorError("an instruction vector needs at least one head")
        if wrong := [head for head in self.heads if min(head) < 0]:
            raise VectorError(f"head {wrong[0]} does not exist: layers and heads are counted from 0")
        if self.layer is not None:
            try:
                object.__setattr__(self, "layer", index(self.layer))
            except TypeError as error:
                raise VectorError(f"layer must be a whole number, got {self.layer!r}") from error
            if self.layer < 0:
                raise VectorError(f"layer {self.layer} does not exist: layers are counted from 0")
        if len(self.heads) != len(self.values):
            raise VectorError(f"{len(self.heads)} heads but {len(self.values)} values")
        if len(set(self.heads)) != len(self.heads):
            raise VectorError("the same head is listed twice")
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @classmethod
    def from_means(
        cls, model: nn.Module, mean_heads: Float[Tensor, "layer head head_dim"], heads: tuple[Head, ...], **more: Any
    ) -> "InstructionVector":
        """The vector of head set S = `heads`, given all heads' means.

        Raises:
            VectorError: a head that the model does not have.
        """
        heads = check_heads(heads, anatomy_of(model))
        return cls._written(model, heads, torch.stack([mean_heads[layer, head] for layer, head in heads]).float(), **more)

    @classmethod
    @torch.no_grad()
    def _written(
        cls,
        model: nn.Module,
        heads: tuple[Head, ...],
        values: Float[Tensor, "head head_dim"],
        layer: int | None = None,
        metadata: Mapping[str, Any] = MappingProxyType({}),
    ) -> "InstructionVector":
        """The vector of heads with these mean outputs, θ being the sum of what the model's heads write of them."""
        anatomy = anatomy_of(model)
        written = [anatomy.write(layer, head, value) for (layer, head), value in zip(heads, values, strict=True)]
        summed = torch.stack(written).sum(0, dtype=torch.promote_types(anatomy.dtype, torch.float32))
        return cls(tuple(heads), values, summed, layer, {**metadata, "adds_writes": anatomy.adds_writes})

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that acts: heads, layer and numbers; equal for two vectors exactly when they do the same."""
        parts = (each.numpy().tobytes() for each in (self.values, self.summed))
        return hashlib.sha256(f"{self.heads} {self.layer}".encode() + b"".join(parts)).hexdigest()

    def first(self, model: nn.Module, k: int) -> "InstructionVector":
        """The vector of its first k heads: the strongest k, where `extract` made it.

        Args:
            model: the model the vector was made from.
            k: how many heads.

        Raises:
            VectorError: fewer than k heads, or another model's vector.
        """
        self.check_fits(model)
        if not 1 <= k <= len(self.heads):
            raise VectorError(f"this vector has {len(self.heads)} heads, so not the first {k}")
        if k == len(self.heads):
            return self
        scores = self.metadata.get("scores")
        metadata = {**self.metadata, **({"scores": scores[:k]} if scores else {})}
        return self._written(model, self.heads[:k], self.values[:k], layer=self.layer, metadata=metadata)

    def applied(
        self,
        model: nn.Module,
        mode: Mode = "distributed",
        scale: float = 1.0,
        positions: Positions = "prefill_end",
        rows: Sequence[bool] | None = None,
    ) -> AbstractContextManager[None]:
        """Intervene on `model` inside a `with` block; see `injection.applied` for modes and positions.

        The first use on a model compares its weights with those the vector was made from, for which they are hashed once.

        Args:
            model: the model the vector was made from, the same under adapters, or a full fine-tune of it.
            mode: `distributed`, `summed` or `replace`.
            scale: α, in multiples of the vector; negative subtracts. `replace` knows none.
            positions: which tokens; `"prefill_end"`, `"labels"`, or bool `[batch, seq]`.
            rows: for each row of the batch whether it gets the vector; all by default. One block inside another gives each row
                a vector of its own.

        Raises:
            VectorError: the vector does not fit the model, or the mode does not fit either.
            HookError: no token was edited.
        """
        self.check_fits(model)
        return applied(self, model, mode=mode, scale=scale, positions=positions, rows=rows)

    def check_fits(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        """Refuse a model that this vector does not belong to; say once of a full fine-tune that it is one.

        Args:
            model: the model the vector was made from, the same under adapters, or a full fine-tune of it.
            tokenizer: its tokenizer, to be compared too.

        Raises:
            VectorError: other heads, sizes, architecture or vocabulary than the vector was made with; the message says which.
        """
        anatomy = anatomy_of(model)
        if self.values.shape[1] != anatomy.head_dim or self.summed.shape[0] != anatomy.hidden_size:
            raise VectorError(
                f"this vector has head width {self.values.shape[1]} and hidden size {self.summed.shape[0]}; the model has "
                f"{anatomy.head_dim} and {anatomy.hidden_size}: it was made from another architecture"
            )
        for layer, head in self.heads:
            if layer >= anatomy.n_layers or head >= anatomy.n_heads:
                raise VectorError(f"this vector needs head ({layer}, {head}); the model has {anatomy.n_layers}×{anatomy.n_heads}")
        if self.layer is not None and not 0 <= self.layer < anatomy.n_layers:
            raise VectorError(f"this vector is added after layer {self.layer}; the model has {anatomy.n_layers} layers")
        made_of = self.metadata.get("architecture")
        if made_of and made_of != type(anatomy.causal_lm).__name__:
            raise VectorError(f"this vector was made from a {made_of}, the model is a {type(anatomy.causal_lm).__name__}")
        shape, recorded = shape_of(anatomy), self.metadata.get("shape", {})
        for name, size in recorded.items():
            if shape.get(name) != size:
                raise VectorError(f"this vector's model had {name} {size}, this one has {shape.get(name)}: it is another model")
        vocabulary = self.metadata.get("tokenizer_fingerprint")
        if tokenizer is not None and vocabulary and tokenizer_fingerprint(tokenizer) != vocabulary:
            raise VectorError("this vector's model had another vocabulary: the tokenizer numbers tokens in another way")
        self._compare_weights(anatomy.causal_lm)

    def _compare_weights(self, causal_lm: PreTrainedModel) -> None:
        made_from, met = self.metadata.get("model_fingerprint"), _COMPARED.setdefault(causal_lm, set())
        if made_from is None or made_from in met:
            return
        met.add(made_from)
        if last_fingerprint(causal_lm) not in (None, made_from):
            logger.warning(
                "the weights of %s are not those the vector was made from (%s): a full fine-tune, another dtype or quantisation",
                causal_lm.config._name_or_path or type(causal_lm).__name__,
                self.metadata.get("model") or made_from[:12],
            )

    def __mul__(self, factor: float) -> "InstructionVector":
        return replace(self, values=self.values * factor, summed=self.summed * factor)

    __rmul__ = __mul__

    def __neg__(self) -> "InstructionVector":
        return self * -1.0

    def __add__(self, other: "InstructionVector") -> "InstructionVector":
        if self.layer != other.layer:
            raise VectorError(f"summed vectors of different layers ({self.layer} and {other.layer}) do not add up")
        if self.summed.shape != other.summed.shape or self.values.shape[1] != other.values.shape[1]:
            raise VectorError("vectors of different architectures do not add up")
        made_of = {v.metadata["architecture"] for v in (self, other) if v.metadata.get("architecture")}
        if len(made_of) > 1:
            raise VectorError(f"vectors of different architectures do not add up ({' and '.join(sorted(made_of))})")
        total = dict(zip(self.heads, self.values, strict=True))
        for head, value in zip(other.heads, other.values, strict=True):
            total[head] = total[head] + value if head in total else value
        agreed = {name: value for name, value in self.metadata.items() if other.metadata.get(name) == value}
        values = torch.stack(list(total.values()))
        return InstructionVector(tuple(total), values, self.summed + other.summed, self.layer, agreed)

    def __sub__(self, other: "InstructionVector") -> "InstructionVector":
        return self + other * -1.0

    def cosine(self, other: "InstructionVector") -> float:
        """Cosine of the two summed vectors, -1 to 1 (the similarity of Jiang et al. 2502.11019)."""
        return float(torch.cosine_similarity(self.summed, other.summed, dim=0))

    def random_like(self, seed: int | str = 0) -> "InstructionVector":
        """A control: at each head a random direction of the same norm; θ rescaled to θ's own norm.

        Args:
            seed: of the draw; a text (a task's name and a number, say) is hashed to one.
        """
        number = seed if isinstance(seed, int) else int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4])
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(self.values.shape, generator=generator)
        values = noise / noise.norm(dim=1, keepdim=True) * self.values.norm(dim=1, keepdim=True)
        stream = torch.randn(self.summed.shape, generator=generator)
        metadata = {**self.metadata, "control": "random"}
        return replace(self, values=values, summed=stream / stream.norm() * self.summed.norm(), metadata=metadata)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `vector.safetensors`, `config.json` and a README card into `folder`, which is made if need be."""
        from instruction_vectors.vectors.artefact import save

        save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> "InstructionVector":
        """Read a vector from a folder or a hub id.

        Raises:
            VectorError: nothing there, or not a vector; the message names the file that is missing or damaged.
        """
        from instruction_vectors.vectors.artefact import read

        return read(str(name_or_path))

    def push_to_hub(self, repo_id: str, *, token: str | bool | None = None, **options: Any) -> str:
        """Upload the artefact to the Hugging Face hub; returns its URL.

        Args:
            repo_id: `owner/name`; made if need be.
            token: of the hub; the one of `hf auth login` by default.
            options: of `huggingface_hub.HfApi.create_repo`, such as `private=True`.

        Raises:
            VectorError: the hub refused, or could not be reached.
        """
        from instruction_vectors.vectors.artefact import push

        return push(self, repo_id, token=token, **options)
