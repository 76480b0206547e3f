"""Freed memory is kept for inputs of the same shape, and released before one of another shape."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from genrepro.model import allocator

def pages_taken() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(16_000_000)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

by_default = pages_taken()
allocator.keep_freed_memory()
model = torch.nn.Identity()
allocator.release_between_shapes(model)
model(torch.zeros(8, 16_000))
pages_taken()
kept, holding = pages_taken(), resident()
model(torch.zeros(8, 16_000))
assert resident() > 0.9 * holding
model(input=torch.zeros(8, 9_000))
print(by_default, kept, holding - resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_kept_for_one_shape_and_released_before_another():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_default, kept, released = map(int, done.stdout.split())
    assert kept < by_default / 10
    assert released * 4096 > 50e6
