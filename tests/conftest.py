"""What all tests share."""

import pytest
import tiny
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tok():
    """Word-level tokenizer that starts every text with `<s>`."""
    return tiny.tokenizer()


@pytest.fixture(scope="session")
def real():
    """The small real model everything is shown on, with its tokenizer."""
    from instruction_vectors import load

    return load()
