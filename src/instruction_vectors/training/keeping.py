"""What the teacher said, kept beside every checkpoint, so that a resumed run goes on bit for bit."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from instruction_vectors.models.loading import model_fingerprint
from instruction_vectors.training.config import IVGuidanceConfig
from instruction_vectors.training.teacher import Teacher
from instruction_vectors.vectors.vector import InstructionVector

_FILE = "teacher-{}.safetensors"


class TeacherKeeper(TrainerCallback):
    """Writes a file beside every checkpoint; processes know the same, so the one that saves writes it."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Into the folder that was just written."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if args.should_save and folder.is_dir():
            self.teacher.save(folder / _FILE.format(args.process_index))


def load_beside(teacher: Teacher, checkpoint: str | bool, output_dir: str) -> None:
    """Take up what the teacher said to all processes of the run that wrote a checkpoint (True: the last one)."""
    folder = get_last_checkpoint(output_dir) if checkpoint is True else checkpoint
    for path in sorted(Path(str(folder or output_dir)).glob(_FILE.format("*"))):
        teacher.load(path)


def teacher_identity(teaches: nn.Module, vectors: Mapping[str, InstructionVector], config: IVGuidanceConfig) -> str:
    """SHA-256 of all that decides what a teacher says; to be asked while it is the frozen model."""
    digest = hashlib.sha256(f"{config.teacher} {config.mode} {config.teacher_scale} {model_fingerprint(teaches)}".encode())
    if config.teacher == "previous":  # a fingerprint leaves the adapters out, which teach here
        for name, weight in sorted(teaches.named_parameters()):
            if weight.requires_grad:
                digest.update(name.encode() + weight.detach().float().cpu().contiguous().numpy().tobytes())
    for name, vector in sorted(vectors.items()):
        digest.update(f"{name} {vector.heads} {vector.layer}".encode())
        digest.update(vector.values.contiguous().numpy().tobytes() + vector.summed.contiguous().numpy().tobytes())
    return digest.hexdigest()
