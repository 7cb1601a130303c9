"""The teacher: a frozen model, steered, computed once a row and remembered.

It never changes, so what it says at a place depends on the tokens before that place alone. Its final hidden state there
(`hidden_size` numbers, not a vocabulary) is kept and sent through the head when needed, which is exact.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor

from instruction_vectors.errors import TrainingError
from instruction_vectors.models.anatomy import Anatomy, evaluating, tolerance
from instruction_vectors.training.consistency import heads_read
from instruction_vectors.training.memory import Memory
from instruction_vectors.training.sharding import sharded
from instruction_vectors.training.targets import Targets, model_inputs
from instruction_vectors.training.visible import Part, visible
from instruction_vectors.vectors.vector import Head

_BESIDE_TEXT = ("pixel_values", "image", "video", "audio", "input_features", "input_values")
"""How models call, or begin to call, what they read that is no text."""


class Teacher:
    """Final hidden states and head outputs of the frozen model, by prefix.

    Args:
        anatomy: of the model that teaches.
        view: a context in which that model is the frozen one (adapters off, or weights of before).
        steer: makes the intervention for given positions by vector name.
        describe: tells this teacher from any other, weights and vectors included; asked only if it is kept in a file.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        view: Callable[[], AbstractContextManager[Any]],
        steer: Callable[[Mapping[str, Tensor]], AbstractContextManager[Any]],
        describe: Callable[[], str] = str,
    ) -> None:
        self.anatomy, self._view, self._steer, self._describe = anatomy, view, steer, describe
        self._memory = Memory()
        self.forwards = 0

    def __len__(self) -> int:
        return len(self._memory)

    @torch.no_grad()
    def logits(
        self, batch: Mapping[str, Any], targets: Targets, which: Int[Tensor, " asked"]
    ) -> Float[Tensor, "asked vocabulary"]:
        """What the steered teacher predicts after the targets' places of the given numbers."""
        hidden = self.states(batch, targets, which)
        if not len(hidden):
            return hidden
        with self._view():
            return self.anatomy.logits(hidden[None])[0]

    @torch.no_grad()
    def states(self, batch: Mapping[str, Any], targets: Targets, which: Int[Tensor, " asked"]) -> Float[Tensor, "asked hidden"]:
        """The steered teacher's final states there, which its head turns into `logits`."""
        rows, columns = targets.places.nonzero()[which].T
        _refuse_more_than_text(batch)
        keys = [_key("state", *seen) for seen in self._seen(batch, targets.starts, rows, columns)]

        def run() -> Tensor:
            asked = torch.zeros_like(targets.places).index_put_((rows, columns), torch.tensor(True, device=rows.device))
            part = Part.seen_by(batch, asked)
            with self._frozen(), self._steer({name: part.of(where) for name, where in targets.starts.items()}):
                states, inner = self._forward(part), torch.searchsorted(part.columns, columns.contiguous())
                return states[rows.to(states.device), inner.to(states.device)]  # of several devices a model's last

        said = self._recall(keys, run)
        return torch.stack(said).to(self.anatomy.device) if said else torch.empty(0, 0)

    @torch.no_grad()
    def heads(
        self, batch: Mapping[str, Any], targets: Targets, heads: Mapping[str, Sequence[Head]]
    ) -> dict[str, Float[Tensor, "answer head head_dim"]]:
        """Outputs of each vector's heads where it goes in, in the teacher without any vector."""
        _refuse_more_than_text(batch)
        keys = {
            name: [_key(f"heads {tuple(heads[name])}", *seen) for seen in self._seen(batch, {}, *where.nonzero().T)]
            for name, where in targets.starts.items()
        }

        def run() -> Iterator[Tensor]:
            part = Part.seen_by(batch, sum(targets.starts.values(), torch.zeros_like(targets.places)))
            with self._frozen(), ExitStack() as stack:
                reads = [
                    stack.enter_context(heads_read(self.anatomy, heads[name], part.of(where)))
                    for name, where in targets.starts.items()
                ]
                self._forward(part)
            return chain.from_iterable(read() for read in reads)

        rows = iter(self._recall(list(chain.from_iterable(keys.values())), run))
        return {name: torch.stack(list(islice(rows, len(mine)))).to(self.anatomy.device) for name, mine in keys.items()}

    def save(self, path: Path, but: Set[bytes] = frozenset()) -> None:
        """Keep in a file what is known, but for some keys."""
        self._memory.save(path, self.fingerprint, but)

    def load(self, path: Path) -> set[bytes]:
        """Take up what a file knows, if it was this teacher's; the keys of that."""
        return self._memory.load(path, self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Equal for two teachers exactly when they say the same."""
        with self._view():
            return self._describe()

    def has_the_head_of(self, student: Anatomy) -> bool:
        """Whether the student's head says the same: it is the same one, and neither trains nor is adapted."""
        if self.anatomy is not student:
            return False
        inside = {module for layer in student.layers for module in layer.modules()}
        outside = [module for module in student.causal_lm.modules() if module not in inside]
        adapted = any(isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) for module in outside)
        return not adapted and not any(weight.requires_grad for module in outside for weight in module.parameters(recurse=False))

    def forget_at_once(self) -> None:
        """Keep nothing of what is said, for runs that ask about no row twice."""
        self._memory = Memory(keeps=False)

    def keys(self) -> set[bytes]:
        """What is known: a key is of the tokens seen, the vector's name and its places."""
        return self._memory.keys()

    def _recall(self, keys: Sequence[bytes], run: Callable[[], Iterable[Tensor]]) -> list[Tensor]:
        return self._memory.recall(keys, run, alike=self._parted)

    def _forward(self, part: Part) -> Float[Tensor, "batch kept hidden"]:
        self.forwards += 1
        # With a cache a model does not tell samples of one row apart by their positions.
        return self.anatomy.backbone(**{**part.inputs, "use_cache": False})[0]

    @cached_property
    def _parted(self) -> bool:
        """First asked in training, when weights lie where they stay."""
        return sharded(self.anatomy.causal_lm)

    def _seen(
        self, batch: Mapping[str, Any], edits: Mapping[str, Tensor], rows: Tensor, columns: Tensor
    ) -> list[tuple[str, tuple[int, ...], int, bytes]]:
        """What the state at each place depends on: which vector went in where, where the first token stands, the tokens."""
        ids, seen_at = batch["input_ids"].cpu(), visible(batch)
        positions = batch["position_ids"].cpu() if "position_ids" in batch else torch.arange(ids.shape[1]).expand_as(ids)
        places = {name: starts.cpu() for name, starts in edits.items()}
        found = []
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            seen = seen_at(row, column).nonzero().flatten()
            edited = {name: starts[row][seen].nonzero().flatten().tolist() for name, starts in places.items()}
            name = next((name for name, where in edited.items() if where), "")
            begins = int(positions[row, seen[0]]) if len(seen) else 0
            begins = begins if begins and self._counts_from_the_left else 0
            found.append((name, tuple(edited.get(name, ())), begins, ids[row, seen].numpy().tobytes()))
        return found

    @cached_property
    def _counts_from_the_left(self) -> bool:
        """Whether a state depends on how much padding its row has on the left: positions are absolute and not told."""
        if self._parted:
            return True  # not every process may come to ask
        ids, device = torch.arange(2, 6), self.anatomy.device
        states = []
        with self._frozen():
            for padding in (0, 3):
                row = torch.cat([ids.new_zeros(padding), ids])[None].to(device)
                mask = torch.cat([ids.new_zeros(padding), torch.ones_like(ids)])[None].to(device)
                states.append(self.anatomy.backbone(input_ids=row, attention_mask=mask, use_cache=False)[0][0, -1])
        allowed = tolerance(self.anatomy.dtype, self.anatomy.device) * states[0].abs().max()
        return bool((states[1] - states[0]).abs().max() > allowed)

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Entered before hooks are set: a model that is sharded has to run once by itself (`sharding.gathered`)."""
        with evaluating(self.anatomy.causal_lm), self._view():
            yield


def _refuse_more_than_text(batch: Mapping[str, Any]) -> None:
    """What a model reads beside tokens goes in before its text layers, which alone are run here."""
    if others := [name for name in model_inputs(batch) if name.startswith(_BESIDE_TEXT)]:
        raise TrainingError(
            f"a batch has {others[0]!r}, and the teacher reads text alone: train on text, or without KL and consistency"
        )


def _key(kind: str, name: str, edited: tuple[int, ...], begins: int, tokens: bytes) -> bytes:
    told = (kind, name, edited, begins) if begins else (kind, name, edited)  # as shelves of before have it
    return hashlib.sha256(repr(told).encode() + tokens).digest()
