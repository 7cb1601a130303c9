"""What can be chosen about guidance, each choice with its source."""

from dataclasses import dataclass
from typing import Literal, get_origin, get_type_hints

from instruction_vectors.errors import TrainingError
from instruction_vectors.settings import one_of
from instruction_vectors.training.objectives import Direction
from instruction_vectors.training.schedule import Schedule
from instruction_vectors.vectors.injection import Mode


@dataclass(frozen=True, slots=True)
class IVGuidanceConfig:
    """IV-guided training (Jiang et al. 2406.12227, §5) and the consistency term of Jiang et al. 2502.11019.

    Attributes:
        schedule: how the vector added to the student is withdrawn. `progressive` is the authors' code's.
        sign: whether the student's vector is added (+1), subtracted (-1) or left out (0). The authors' work has both
            signs; here + keeps more (docs/reproducibility.md).
        mode: how vectors are added, to student and teacher. `distributed` is the authors' code's. `replace` knows no strength:
            the student's vector is in whole until its schedule has reached 0.
        kl_weight: λ; 1 in the code of Jiang et al. 2406.12227's time.
        kl_positions: `last_input` compares the two where the answer begins, `answer` at every answer token.
        kl_direction: KL(student‖teacher) in the authors' code, the reverse in the text.
        temperature: 2 in the authors' code.
        kl_threshold: hinge below which a place costs nothing; 0 by default.
        teacher_scale: scale of the vector in the teacher; 0 makes it the plain base model (the plain-KL control).
        teacher: `original` is the model without its adapters, or the given reference (M_0, Jiang et al. 2406.12227);
            `previous` the model as the trainer was given it, so as the task before left it (M_{j-1}, Jiang et al.
            2502.11019). Of `previous`, a copy of the weights that train is kept.
        consistency_weight: α_1 of Jiang et al. 2502.11019 (1 in their paper, with sign 0, teacher `previous` and
            kl_weight 0.08); how much head outputs that stray from the teacher's cost. 0 leaves the term out.
    """

    schedule: Schedule = "progressive"
    sign: Literal[1, 0, -1] = 1
    mode: Mode = "distributed"
    kl_weight: float = 1.0
    kl_positions: Literal["last_input", "answer"] = "last_input"
    kl_direction: Direction = "student_teacher"
    temperature: float = 2.0
    kl_threshold: float = 0.0
    teacher_scale: float = 1.0
    teacher: Literal["original", "previous"] = "original"
    consistency_weight: float = 0.0

    @classmethod
    def recommended(cls) -> "IVGuidanceConfig":
        """The settings that came out best on the sequence kept apart for choosing them (docs/evidence.md, "The preset").

        They are the defaults: with steered anchors (`iv train --vector anchors`) none of the options changed one at a time did
        better, over three seeds where it was close. On a task's own rows they were not compared.
        """
        return cls()

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal:
                one_of(kind, getattr(self, name), name, TrainingError)
        if self.mode == "replace" and (self.sign == -1 or self.teacher_scale not in (0, 1)):
            raise TrainingError(
                "mode 'replace' puts the vector in place of what was there, whole or not at all: sign -1 would mean +1, and "
                "teacher_scale can only be 1 or 0"
            )
        if not self.temperature > 0:
            raise TrainingError(f"temperature must be above 0, got {self.temperature}")
        if not (self.kl_weight >= 0 and self.kl_threshold >= 0 and self.consistency_weight >= 0):
            raise TrainingError("kl_weight, kl_threshold and consistency_weight cannot be negative")
