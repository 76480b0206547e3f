"""Processes that classify sound files for the endpoint, each with the model and one thread.

A file that crashes a decoder costs its own answer and a process, which is replaced.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from threadpoolctl import threadpool_limits

from genrepro.audio import AudioFault
from genrepro.core import processes
from genrepro.core.errors import PipelineError
from tools.classifier import Classifier, read_labels

ATTEMPTS = 2  # a process may have died earlier, for another reason than this file


class Pool:
    """`count` processes that classify with an exported model; a context manager.

    Raises:
        PipelineError: the model cannot be loaded.
    """

    def __init__(self, model: Path, count: int) -> None:
        self.labels = read_labels(model)
        self._model = model
        self._all = [_process() for _ in range(count)]
        self._idle: asyncio.Queue[ProcessPoolExecutor] = asyncio.Queue()

    def __enter__(self) -> Pool:
        try:
            for loading in [each.submit(_get_ready, self._model) for each in self._all]:
                loading.result()
        except BrokenProcessPool:
            self.__exit__()
            raise PipelineError(
                "a process that loads the model died, usually because memory ran out: run again "
                "with GENREPRO_WORKERS=1."
            ) from None
        except BaseException:
            self.__exit__()
            raise
        for each in self._all:
            self._idle.put_nowait(each)
        return self

    def __exit__(self, *_: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()
        for each in self._all:
            each.shutdown(cancel_futures=True)  # waits for its thread, which has no process now

    async def classify(self, path: Path, longest: float) -> dict:
        """A prediction as JSON, once a process is free; first come, first served.

        Raises:
            AudioFault: as `Classifier.file` does, or the process crashed.
        """
        process = await self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                try:
                    return await asyncio.get_running_loop().run_in_executor(
                        process, _described, self._model, path, longest
                    )
                except BrokenProcessPool:
                    self._all.remove(process)
                    process = _process()
                    self._all.append(process)
            raise AudioFault("the process that read it crashed")
        finally:
            self._idle.put_nowait(process)


def _process() -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=_set_up)


def _set_up() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the server ends us
    processes.end_with_parent(signal.SIGKILL)


@functools.cache
def _load(model: Path) -> Classifier:
    classifier = Classifier(model, threads=1)
    threadpool_limits(1)  # a process per core is enough
    return classifier


def _get_ready(model: Path) -> None:
    _load(model)  # what a process keeps for itself


def _described(model: Path, path: Path, longest: float) -> dict:
    classifier = _load(model)
    return classifier.file(path, longest).described(classifier.labels)
