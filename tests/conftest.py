"""What all tests share."""

import os

import pytest
import tiny
import torch
from hypothesis import settings

torch.set_num_threads(1)
# Expected numbers are the CPU's, and many models here are put together on it; benchmarks/gpu_check.py looks at accelerators.
os.environ.setdefault("ACCELERATE_USE_CPU", "1")
# A machine that has other work now and then takes longer for an example, which is no failure.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def tok():
    """Word-level tokenizer that starts every text with `<s>`."""
    return tiny.tokenizer()


@pytest.fixture(scope="session")
def real():
    """The small real model everything is shown on, with its tokenizer."""
    from instruction_vectors import load

    return load()


@pytest.fixture
def lm_eval_tasks(tmp_path, monkeypatch):
    """Folder of two local lm-eval tasks, read without network and without the user's cache."""
    import datasets
    import tiny_lm_eval

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tiny_lm_eval.write(tmp_path)
