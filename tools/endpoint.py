"""The HTTP endpoint that tools.serve runs: POST /classify, GET /health, and /docs about both.

One event loop receives files and answers; processes of a pool classify them. An error is JSON too:
{"error": "a sentence"}.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from genrepro.audio import AudioFault
from genrepro.core.errors import PipelineError
from tools.classifier import NotASound
from tools.pool import Pool

TOKEN = "GENREPRO_TOKEN"  # an environment variable: a command line is visible to other users
MAX_WAITING = 128  # files that are held at once; from then on the answer is 503
MAX_SECONDS = 3600.0  # of sound in one file
UPLOAD_SECONDS = 300  # for one upload, from its first byte to its last
RETRY_SECONDS = 5

HOW = "send a sound file as multipart/form-data in the field `file`: curl -F file=@song.mp3 URL"
NO_TOKEN = "this endpoint asks for a token: send the header `Authorization: Bearer TOKEN`"
ELSEWHERE = {
    404: "there is nothing at {path}: POST a file to /classify, or open /docs",
    405: "{path} does not answer {method}: /docs says how to use it",
}


class Segment(BaseModel):
    """The prediction for a few seconds of a file."""

    start: float
    end: float
    label: str
    probability: float
    silent: bool


class Answer(BaseModel):
    """The prediction for a file: the average over its segments. Times are in seconds."""

    file: str
    label: str
    probability: float
    probabilities: dict[str, float]
    seconds: float
    silent: bool
    cut_short: str | None
    remark: str | None
    segments: list[Segment]


class Health(BaseModel):
    """The endpoint's status, and the labels of its model."""

    status: str
    labels: list[str]


class Problem(BaseModel):
    """Why there is no prediction, in a sentence."""

    error: str


def create(pool: Pool, max_bytes: int) -> FastAPI:
    """Build the endpoint for a pool of processes; an upload has at most `max_bytes`."""
    app = FastAPIOffline(
        title="genrepro",
        description=f"Classify sound files; at most {max_bytes / 1e6:g} MB per upload.",
        redoc_url=None,
    )
    app.state.pool, app.state.max_bytes, app.state.waiting = pool, max_bytes, 0
    for kind in (HTTPException, AudioFault, PipelineError, Exception):
        app.add_exception_handler(kind, _explained)
    app.post(
        "/classify",
        summary="Classify a sound file",
        dependencies=[Depends(_check_token)],
        responses={status: {"model": Problem} for status in (400, 401, 408, 413, 415, 422, 503)},
        openapi_extra=UPLOAD,
    )(classify)
    app.get("/health", summary="Whether the endpoint answers")(health)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the client is told
    return app


# The body is described here and read in `classify`, because FastAPI would receive all of an upload
# before it looks at the token.
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


async def _check_token(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    token = os.environ.get(TOKEN, "")
    sent = given.credentials if given else ""
    if token and not secrets.compare_digest(sent.encode(), token.encode()):
        raise HTTPException(401, NO_TOKEN, headers={"WWW-Authenticate": "Bearer"})


async def classify(request: Request) -> Answer:
    """Predict the label of a sound file (field `file`), as a whole and segment by segment."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, HOW)
    with _place(request.app):
        async with _form(request, request.app.state.max_bytes) as sound:
            with tempfile.NamedTemporaryFile(prefix="genrepro-") as copy:
                await asyncio.to_thread(shutil.copyfileobj, sound.file, copy)
                copy.flush()
                found = await request.app.state.pool.classify(Path(copy.name), MAX_SECONDS)
    return Answer(file=sound.filename or "", **found)


async def health(request: Request) -> Health:
    """Answer while the endpoint can take requests."""
    return Health(status="ok", labels=request.app.state.pool.labels)


@contextlib.contextmanager
def _place(app: FastAPI) -> Iterator[None]:
    """Limit the files that are held at once: they take up disk space."""
    if app.state.waiting >= MAX_WAITING:
        raise HTTPException(
            503,
            f"too many files are waiting already: try again in {RETRY_SECONDS} s",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    app.state.waiting += 1
    try:
        yield
    finally:
        app.state.waiting -= 1


@contextlib.asynccontextmanager
async def _form(request: Request, max_bytes: int) -> AsyncIterator[UploadFile]:
    """Receive the upload; its file is deleted after the block."""
    bounded = _bounded(request, max_bytes)
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            form = await bounded.form(max_files=1, max_fields=8)
    except TimeoutError:
        raise HTTPException(408, f"the upload took more than {UPLOAD_SECONDS} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the upload was cut off") from None
    try:
        sound = form.get("file")
        if not isinstance(sound, UploadFile):
            raise HTTPException(422, HOW)
        yield sound
    finally:
        await form.close()


def _bounded(request: Request, max_bytes: int) -> Request:
    """The same request, limited to `max_bytes` whatever its headers say."""
    too_large = HTTPException(
        413, f"the upload is too large: at most {max_bytes / 1e6:g} MB are accepted"
    )
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise too_large
        return message

    return Request(request.scope, receive)


async def _explained(request: Request, error: Exception) -> JSONResponse:
    """Any error as JSON; a defect's traceback is in the log."""
    status, words, headers = 500, "the server failed; its log says how", None
    if isinstance(error, HTTPException):
        status, words, headers = error.status_code, error.detail, error.headers
        if status in ELSEWHERE:
            words = ELSEWHERE[status].format(path=request.url.path, method=request.method)
    elif isinstance(error, AudioFault):
        status = 415 if isinstance(error, NotASound) else 422
        words = f"this file cannot be classified: {error}"
    elif isinstance(error, PipelineError):
        status, words = 503, str(error)
    sentence = words.rstrip(".") + "."
    return JSONResponse({"error": sentence[0].upper() + sentence[1:]}, status, headers)
