"""Ctrl-C and SIGTERM while a stage or tool is still importing, or already closing down.

Imports take seconds. There is nothing to save yet, and an exception in the middle of another
library's import may be swallowed or end in a traceback: so the process ends at once.
"""

import os
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SENTENCE = "error: interrupted; the same command goes on from here."


def end_at_once() -> None:
    """To be called by the package of what `python -m` starts; runtime.run takes over from it."""
    if sys.argv[0] == "-m":  # while Python looks for the script; else something else imports it
        for number in SIGNALS:
            signal.signal(number, _end)


def _end(number: int, frame: object) -> None:
    os.write(2, f"{SENTENCE}\n".encode())
    os._exit(1)
