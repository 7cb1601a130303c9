"""The real model, opened once."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def opened():
    """`(model, tokenizer)` of the default model."""
    import instruction_vectors

    return instruction_vectors.load(device="cpu")
