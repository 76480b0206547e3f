"""Damaged files for each reader are read, skipped or refused: a short `tests.support.fuzz`."""

import os
import time

import pytest

from tests.support import fuzz

SEED = int(os.environ.get("GENREPRO_FUZZ_SEED", time.time()))
QUICK = [name for name in fuzz.READERS if name not in ("extractor", "config")]  # no torch to import


@pytest.mark.slow
@pytest.mark.parametrize(("readers", "count"), [(QUICK, 60), (["extractor"], 40)])
def test_no_damaged_file_ends_in_a_traceback_a_hang_or_without_memory(readers, count):
    found = fuzz.attack(SEED, count, readers)
    assert not [fault for outcomes in found.values() for fault in fuzz.faults(outcomes)]
    for reader, outcomes in found.items():
        assert outcomes["megabytes"] < 500 and outcomes["slowest"] < 10, (SEED, reader)
        assert sum(outcomes.get(name, 0) for name in ("read", "skipped", "refused")) >= count
