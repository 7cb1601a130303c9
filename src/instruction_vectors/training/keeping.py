"""What the teacher said, kept beside every checkpoint, so that a resumed run goes on bit for bit."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
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


def teacher_identity(
    teaches: nn.Module, vectors: Mapping[str, InstructionVector], config: IVGuidanceConfig, precision: str
) -> str:
    """SHA-256 of all that decides what a teacher says; to be asked while it is the frozen model.

    `precision` is the mixed precision it computes in, `no` for the weights' own.
    """
    # Before it computed in mixed precision itself, a teacher's file named that of the student.
    computes = precision if precision == "no" else f"itself {precision}"
    told = f"{config.teacher} {config.mode} {config.teacher_scale} {computes} {model_fingerprint(teaches)}"
    digest = hashlib.sha256(told.encode())
    beside = _adapting(teaches)  # a fingerprint leaves adapters out
    if config.teacher == "previous":  # what trains need lie in no adapted layer: biases, norms
        beside |= {name: weight for name, weight in teaches.named_parameters() if weight.requires_grad}
    for name, weight in sorted(beside.items()):
        digest.update(name.encode() + weight.detach().float().cpu().contiguous().numpy().tobytes())
    for name, vector in sorted(vectors.items()):
        digest.update(f"{name} {vector.fingerprint}".encode())
    return digest.hexdigest()


def _adapting(model: nn.Module) -> dict[str, Tensor]:
    """Weights of adapters that are on, each named with what it is scaled by."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and not module.disable_adapters:
            told = f"{name} {list(module.active_adapters)} {getattr(module, 'scaling', '')}"
            own = (each for each in module.named_parameters() if not each[0].startswith(("base_layer.", "original_module.")))
            found |= {f"{told} {part}": weight for part, weight in own}
    return found
