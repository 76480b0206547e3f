"""The stages of dvc.yaml, one script each, run as `python -m stages.<name>`."""

import signal
import sys

# Imports take seconds: Ctrl-C ends them without a traceback. Then runtime.run says what it means.
if sys.argv[0] == "-m":  # while Python looks for the script
    signal.signal(signal.SIGINT, signal.SIG_DFL)
