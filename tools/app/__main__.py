"""Listen to the corpus, classify a sound, hear the model's mistakes, see the run: in a browser.

It shows what `dvc repro` left in this folder, and only to this machine: python -m tools.app
"""

import argparse
import os
import threading

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from genrepro.core.errors import PipelineError
from genrepro.core.stage import log, run
from tools.app import page, sounds


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.app",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: this machine alone; 0.0.0.0: the network"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
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
            **page.LOOK,
        )
    except OSError:  # gradio's own words tell of its environment variables
        raise PipelineError(
            f"{args.host}:{args.port or '7860 to 7959'} cannot be listened on, mostly because "
            "another program does; choose another --port."
        ) from None
    log(f"The app is at {address} (Ctrl-C ends it)")
    # While the person looks around: the first verdict then does not wait for imports.
    threading.Thread(target=sounds.warm_up, daemon=True).start()
    built.block_thread()


if __name__ == "__main__":
    run(main)
