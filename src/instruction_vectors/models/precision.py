"""How precisely a device computes."""

import torch


def widest(device: torch.device) -> torch.dtype:
    """64-bit floats; 32-bit ones on an Apple GPU, which has no others."""
    return torch.float32 if device.type == "mps" else torch.float64
