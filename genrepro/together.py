"""Several processes as one stage: they wait for each other, and one of them speaks.

A launcher (torchrun, or accelerate, which uses it) ends all processes when one of them ends in an
error, so nothing here waits for one that has died.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import distributed

from genrepro import ranks
from genrepro.runtime import PipelineError

PATIENCE = 10.0  # seconds in which rank 0 comes upon a fault that all ranks have
POLL = 0.1
SPOKEN = "spoken"


def meet(place: str) -> None:
    """Wait until all ranks have come to `place`, for as long as that takes."""
    if ranks.world() == 1:
        return
    _store().set(f"{place}/{ranks.rank()}", "here")
    everyone = [f"{place}/{rank}" for rank in range(ranks.world())]
    while not _store().check(everyone):  # its own `wait` would hold signals back
        time.sleep(POLL)


@contextlib.contextmanager
def rank_0_first(place: str) -> Iterator[None]:
    """Run the block on rank 0, and then on the others."""
    if ranks.rank():
        meet(place)
    yield
    if ranks.rank() == 0:
        meet(place)


@functools.cache
def _store() -> distributed.Store:
    """The launcher's table of keys, which all ranks see."""
    store, _, _ = next(distributed.rendezvous("env://"))
    return distributed.PrefixStore("genrepro", store)


def one_voice(main: Callable[[], None]) -> Callable[[], None]:
    """Make `main` end all ranks with one sentence, whichever of them has something to say.

    Rank 0 says its own PipelineError at once. Another error may be one that rank 0 has as well, or
    the loss of a rank that has said why: it is raised again if nobody has spoken after a while, and
    if the launcher has not ended this process by then.
    """

    @functools.wraps(main)
    def said_once() -> None:
        _end_with_dvc()
        try:
            main()
        except KeyboardInterrupt:  # by a person, or by the launcher since a rank failed
            if ranks.rank() or _somebody_spoke():
                sys.exit(1)
            raise
        except Exception as error:
            if ranks.rank() or not isinstance(error, PipelineError):
                _let_others_speak()
            if ranks.world() > 1:
                _store().set(SPOKEN, "")
            raise

    return said_once


def _somebody_spoke() -> bool:
    return ranks.world() > 1 and _store().check([SPOKEN])


def _let_others_speak() -> None:
    """Wait a while, and end this process in silence as soon as another has said what is wrong."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the launcher's way to end it
    end = time.monotonic() + (PATIENCE if ranks.world() > 1 else 0)
    while time.monotonic() < end:
        if _somebody_spoke():
            sys.exit(1)
        time.sleep(POLL)


def _end_with_dvc() -> None:
    """Stop as on SIGTERM once the launcher has lost the `dvc` that started it (on Linux).

    The launcher itself would go on; runtime.run looks to the launcher alone.
    """
    launcher = Path(f"/proc/{os.getppid()}/stat")

    def parent() -> str:
        return launcher.read_text().rpartition(")")[2].split()[1]

    def watch(dvc: str) -> None:
        with contextlib.suppress(OSError):  # the launcher is gone
            while parent() == dvc:
                time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)

    if ranks.launched() and "DVC_STAGE" in os.environ and launcher.exists():
        threading.Thread(target=watch, args=[parent()], daemon=True).start()
