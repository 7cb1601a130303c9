"""What teachers said, on a shelf that several runs share: a second run over the same rows asks nothing again."""

import hashlib
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from instruction_vectors.training.teacher import Teacher


class TeacherShelf(TrainerCallback):
    """Reads at the beginning of training what earlier runs kept, and keeps at every save and at the end what is new.

    Entries are found by the tokens they belong to, the files by the teacher's fingerprint: `FOLDER/FINGERPRINT/DATA.safetensors`
    (original weights, vectors, mode and scale, then the new entries' keys). Nothing that is there is written again, so
    processes and runs may share a folder at the same time.

    Args:
        teacher: whose answers are kept.
        folder: the shelf, made if it is not there.
    """

    def __init__(self, teacher: Teacher, folder: str | Path) -> None:
        self.teacher, self._folder = teacher, Path(folder)
        self._shelved: set[bytes] = set()

    @property
    def folder(self) -> Path:
        """Of this teacher's files."""
        return self._folder / self.teacher.fingerprint[:32]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take up what is there."""
        for path in sorted(self.folder.glob("*.safetensors")):
            self._shelved |= self.teacher.load(path)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add what is new."""
        if new := self.teacher.keys() - self._shelved:
            data = hashlib.sha256(b"".join(sorted(new))).hexdigest()
            self.teacher.save(self.folder / f"{data[:32]}.safetensors", self._shelved)
            self._shelved |= new

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add what is new."""
        self.on_save(args, state, control)
