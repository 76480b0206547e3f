"""A web app to listen to the corpus, classify sounds, review mistakes, and see the current run.

It shows the results of `dvc repro` in this folder. Only this machine can open it, unless --host
or --share says otherwise. For example: python -m tools.app --port 8000
"""

import argparse
import ipaddress
import os
import sys
import threading

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from genrepro.core.errors import PipelineError
from genrepro.core.paths import RAW
from genrepro.core.stage import log, run
from tools.app import classify, page
from tools.app.look import LOOK

CAN = (
    "can play all clips, see the results, classify files of their own, and add or remove "
    "corrections. There is no password."
)


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
    parser.add_argument(
        "--share",
        action="store_true",
        help="also a link that anyone can open, for a week, through gradio.live; needs a network",
    )
    args = parser.parse_args()
    if args.port is not None and not 1 <= args.port <= 65535:
        raise PipelineError(f"--port must be from 1 to 65535, not {args.port}.")
    if args.share or not _is_loopback(args.host):
        who = "anyone who has the link" if args.share else "everyone on your network"
        print(f"warning: {who} {CAN}", file=sys.stderr)
    built = page.build()
    try:
        _, address, link = built.launch(
            server_name=args.host,
            server_port=args.port,
            share=args.share,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            max_file_size="1gb",
            footer_links=[],
            allowed_paths=linked_from(),
            **LOOK,
        )
    except OSError:  # gradio's message is about its environment variables
        raise PipelineError(
            f"cannot listen on {args.host}:{args.port or '7860 to 7959'}, probably because another "
            "program does: choose another --port."
        ) from None
    if args.share and not link:
        raise PipelineError("there is no link: gradio.live could not be reached (see above).")
    log(f"The app is at {link or address} (Ctrl-C ends it)")
    # In the background, so that the first prediction does not wait for imports.
    threading.Thread(target=classify.warm_up, daemon=True).start()
    built.block_thread()


def linked_from() -> list[str]:
    """The part of DVC's cache that clips are links into, if they are: it may be anywhere.

    DVC links all files of an output alike, and names one of them files/md5/ab/cdef… in its cache.
    """
    clips = (next(folder.iterdir(), None) for folder in RAW.glob("*/"))
    return sorted({str(clip.resolve().parents[1]) for clip in clips if clip and clip.is_symlink()})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    run(main)
