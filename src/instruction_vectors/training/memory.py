"""What has been computed once: tensors by key, in memory and in a file."""

import logging
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from instruction_vectors.files import write_atomic
from instruction_vectors.training.processes import everyones

logger = logging.getLogger(__name__)


class Memory:
    """Rows of tensors by 32-byte key. A file of them is mapped into memory, not read, until a row is asked for.

    Args:
        keeps: whether rows are kept; if not, every one is computed each time it is asked for.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self._rows: dict[bytes, Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def recall(self, keys: Sequence[bytes], compute: Callable[[], Iterable[Tensor]], *, alike: bool = False) -> list[Tensor]:
        """The rows of the keys; if any is unknown `compute` gives them all, and those that were unknown are kept.

        Processes of one run tell each other what is new, so a row is computed by one of them; all must ask as often.

        Args:
            keys: of the rows.
            compute: gives a row for each key.
            alike: if one process computes, all do: where weights are sharded none can run the model alone.
        """
        unknown = any(key not in self._rows for key in keys)
        if any(everyones(unknown)):
            # Copies: what is told to other processes would else be the whole tensor that a row is a view of.
            new = {key: row.to("cpu", copy=True) for key, row in zip(keys, compute(), strict=True)} if unknown or alike else {}
            if not self._keeps:
                return [new[key] if key in new else self._rows[key] for key in keys]
            for told in everyones(new):
                for key, row in told.items():
                    self._rows.setdefault(key, row)
        return [self._rows[key] for key in keys]

    def keys(self) -> set[bytes]:
        """What is known."""
        return set(self._rows)

    def save(self, path: Path, fingerprint: str, but: Set[bytes] = frozenset()) -> None:
        """Write every row but those of some keys, whole or not at all.

        A full disk costs a warning, since all can be computed again.
        """
        shapes: dict[tuple, list[bytes]] = {}
        for key, row in self._rows.items():
            if key in but:
                continue
            shapes.setdefault((tuple(row.shape), row.dtype), []).append(key)
        tensors = {}
        for number, keys in enumerate(shapes.values()):
            tensors[f"keys.{number}"] = torch.tensor([list(key) for key in keys], dtype=torch.uint8)
            tensors[f"rows.{number}"] = torch.stack([self._rows[key] for key in keys])
        try:
            write_atomic(path, save(tensors, {"fingerprint": fingerprint}))
        except OSError as error:
            logger.warning("what the teacher said was not kept: %s (%s); a resumed run asks it again", path, error.strerror)

    def load(self, path: Path, fingerprint: str) -> set[bytes]:
        """Take up the rows of a file and return their keys; one of another fingerprint, or damaged, costs a warning."""
        found: set[bytes] = set()
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("fingerprint") != fingerprint:
                    logger.warning("%s was written for another model, vector or setting; the teacher is asked again", path)
                    return found
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    if name.startswith("keys."):
                        rows = file.get_tensor(name.replace("keys.", "rows."))
                        keys = [bytes(key) for key in file.get_tensor(name).tolist()]
                        self._rows.update(zip(keys, rows, strict=True))
                        found.update(keys)
        except (OSError, SafetensorError, ValueError) as error:
            logger.warning("%s cannot be read (%s); the teacher is asked again", path, error)
        return found
