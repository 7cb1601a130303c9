"""What the processes of a run tell each other."""

from typing import TypeVar

import torch.distributed
from accelerate.utils import gather_object

T = TypeVar("T")


def everyones(value: T) -> list[T]:
    """Each process's value, by rank; all must ask."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return gather_object([value]) if several and torch.distributed.get_world_size() > 1 else [value]
