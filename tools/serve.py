"""Serve the exported model over HTTP: POST a sound file to /classify, get its prediction as JSON.

Only this machine can reach it, unless --host says otherwise. With a token in the environment
variable GENREPRO_TOKEN, requests need it. One process per core classifies, or GENREPRO_WORKERS.
For example: python -m tools.serve --port 8000, then curl -F file=@song.mp3 localhost:8000/classify
"""

import argparse
import contextlib
import os
import socket
from pathlib import Path

import uvicorn

from genrepro.core.errors import PipelineError
from genrepro.core.processes import workers
from genrepro.core.stage import log, run
from tools import endpoint
from tools.classifier import EXPORT
from tools.pool import Pool

LOOPBACK = ("127.0.0.1", "::1", "localhost")
BACKLOG = 2048  # connections that wait while the model is loaded


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: this machine only; 0.0.0.0: the whole network"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any free port")
    parser.add_argument("--max-mb", type=float, default=50.0, help="largest upload; default: 50")
    parser.add_argument(
        "--model",
        type=Path,
        default=EXPORT,
        help=f"a folder written by the export stage; default: {EXPORT}",
    )
    args = parser.parse_args()
    if not args.max_mb > 0:
        raise PipelineError(f"--max-mb must be above 0, not {args.max_mb:g}.")
    serve(args.host, args.port, args.model, round(args.max_mb * 1e6))


def serve(host: str, port: int, model: Path, max_bytes: int) -> None:
    """Serve until a signal (Ctrl-C, SIGTERM) ends it.

    Raises:
        PipelineError: the address is taken or is not this machine's, or there is no model.
    """
    with _listen(host, port) as listener, Pool(model, workers()) as pool:
        log(f"The endpoint is at {_address(listener)} (Ctrl-C ends it)")
        if host not in LOOPBACK and not os.environ.get(endpoint.TOKEN):
            log(f"Whoever reaches this machine can use it: set {endpoint.TOKEN} to ask for a token")
        config = uvicorn.Config(
            endpoint.create(pool, max_bytes),
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=10,
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has closed down before it
            uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise PipelineError(
            f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}): choose "
            "another --port or --host."
        ) from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    run(main)
