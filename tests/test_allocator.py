"""Large blocks apart from the heap: what is freed goes back, whatever smaller blocks lie around it."""

import os
import platform
import subprocess
import sys

import pytest

from instruction_vectors.allocator import LARGE

PROGRAM = f"""
import sys, torch
from instruction_vectors.allocator import large_blocks_apart
apart = sys.argv[1] == "apart" and large_blocks_apart()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
first = torch.ones({4 * LARGE}, dtype=torch.uint8)
del first  # by itself glibc now takes blocks up to this size from the heap
before = resident()
large, small = [], []
for _ in range(200):
    large.append(torch.ones({2 * LARGE}, dtype=torch.uint8))
    small.append(torch.ones(2**16, dtype=torch.uint8))
del large
print(apart, (resident() - before) >> 20)
"""


def held(how: str, **environment: str) -> tuple[str, int]:
    """What the program tells: whether blocks lie apart, and MB that are held after everything large was freed."""
    # What commands run by other tests have told PyTorch in this process is not to be heard in that one.
    given = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, env=given | environment
    )
    apart, megabytes = run.stdout.split()
    return apart, int(megabytes)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks of glibc")
def test_freed_tensors_go_back_although_small_ones_between_them_live_on() -> None:
    assert held("as it is")[1] > 200  # else there is nothing to mend
    apart, megabytes = held("apart")
    assert apart == "True"
    assert megabytes < 50  # the small ones are 12.5


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks of glibc")
@pytest.mark.parametrize("told", [{"MALLOC_MMAP_THRESHOLD_": "33554432"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}])
def test_whoever_has_told_glibc_otherwise_is_heard(told: dict[str, str]) -> None:
    assert held("apart", **told)[0] == "False"
