"""What one check found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: `ok`; `warning` where work goes on but slower or otherwise than meant; `problem` where it cannot.
        found: what is there.
        fix: what to do about it; empty exactly where the status is `ok`.
    """

    name: str
    status: Status
    found: str
    fix: str = ""

    def __post_init__(self) -> None:
        if (self.status == "ok") == bool(self.fix):
            raise ValueError(f"{self.name}: a fix belongs to what is not ok, and only there")
