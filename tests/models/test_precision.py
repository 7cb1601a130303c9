"""What a device computes in at most."""

import pytest
import torch

from instruction_vectors.models.precision import widest


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), ("cuda", torch.float64), ("mps", torch.float32)])
def test_an_apple_gpu_has_no_64_bit_floats(device, dtype):
    assert widest(torch.device(device)) == dtype
