"""The end of memory is told from other errors, whichever backend reports it."""

import logging

import pytest
import tiny
import torch

from instruction_vectors.models.anatomy import anatomy_of
from instruction_vectors.models.memory import Room, out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED".lower()),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        RuntimeError("Native API failed: out of host memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("HIP Out Of Memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
    ids=lambda error: str(error)[:40] or type(error).__name__,
)
def test_what_backends_say_when_memory_ends_is_understood(error):
    assert out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"),
        RuntimeError("an illegal memory access was encountered"),
        ValueError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_it(error):
    assert not out_of_memory(error)


def test_the_processor_says_it_in_words_that_are_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_what_a_model_was_found_to_hold_is_remembered_for_it_alone_and_said_once(caplog):
    room, one, other = Room(), anatomy_of(tiny.shared("llama")), anatomy_of(tiny.shared("gpt2"))
    caplog.clear()
    with caplog.at_level(logging.WARNING, "instruction_vectors"):
        known = room.settle(one, room.of(one, 100), 25)
        assert room.settle(one, known, 25) == 25
    assert [record.getMessage() for record in caplog.records] == ["out of memory with 100 tokens at once: going on with 25"]
    assert (room.of(one, 100), room.of(one, 10), room.of(other, 100)) == (25, 10, 100)
