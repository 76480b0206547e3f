"""A web app to listen to the corpus, classify sounds, review mistakes, and see the current run.

It shows the results of `dvc repro` in this folder. Only this machine can open it, unless --host
says otherwise. For example: python -m tools.app --port 8000
"""

import argparse
import os
import threading

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from genrepro.core.errors import PipelineError
from genrepro.core.stage import log, run
from tools.app import classify, page, sounds
from tools.app.look import LOOK


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.app",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: this machine only; 0.0.0.0: the whole network"
    )
    parser.add_argument("--port", type=int, help="default: the first free port from 7860")
    args = parser.parse_args()
    if args.port is not None and not 1 <= args.port <= 65535:
        raise PipelineError(f"--port must be from 1 to 65535, not {args.port}.")
    built = page.build()
    try:
        _, address, _ = built.launch(
            server_name=args.host,
            server_port=args.port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            max_file_size="1gb",
            footer_links=[],
            allowed_paths=sounds.linked_from(),
            **LOOK,
        )
    except OSError:  # gradio's message is about its environment variables
        raise PipelineError(
            f"cannot listen on {args.host}:{args.port or '7860 to 7959'}, probably because another "
            "program does: choose another --port."
        ) from None
    log(f"The app is at {address} (Ctrl-C ends it)")
    # In the background, so that the first prediction does not wait for imports.
    threading.Thread(target=classify.warm_up, daemon=True).start()
    built.block_thread()


if __name__ == "__main__":
    run(main)
