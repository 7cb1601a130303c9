"""Where models go when nothing is said."""

import pytest
import torch

from instruction_vectors.environment import default_device, machine


@pytest.mark.parametrize(("told", "device"), [(None, "cuda"), ("", "cuda"), ("0", "cuda"), ("1", "cpu"), ("true", "cpu")])
def test_an_accelerator_is_taken_unless_accelerate_is_kept_from_it(
    told: str | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    if told is not None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", told)
    assert default_device().type == device
    assert machine()["device"] == device


def test_without_an_accelerator_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    assert default_device() == torch.device("cpu")
