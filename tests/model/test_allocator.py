"""Memory for batches: kept while they have one shape, given back before another."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from genrepro import heap

def pages_taken() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(16_000_000)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

left_alone = pages_taken()
heap.make_ready((8, 16_000))
pages_taken()
kept, holding = pages_taken(), resident()
heap.make_ready((8, 16_000))
assert resident() > 0.9 * holding
heap.make_ready((8, 9_000))
print(left_alone, kept, holding - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_pages_are_kept_for_the_same_shape_and_given_back_before_another():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left_alone, kept, given_back = map(int, done.stdout.split())
    assert kept < left_alone / 10
    assert given_back * 4096 > 50e6
