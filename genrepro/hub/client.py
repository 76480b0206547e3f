"""Files from the Hugging Face Hub: checked against its checksums, in bounded time, or one sentence.

huggingface_hub downloads, resumes a cut body and keeps its cache; HF_ENDPOINT, HF_HOME, HF_TOKEN
and HF_HUB_OFFLINE mean what they mean there. Added here: a limit to the waiting, a check of the
bytes, downloads that a killed process left, and errors for people. No message holds an address's
query or a header, where tokens travel.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import (
    constants,
    errors,
    hf_hub_download,
    set_client_factory,
    snapshot_download,
)
from huggingface_hub.utils import logging
from huggingface_hub.utils._http import default_client_factory

from genrepro.core.errors import PipelineError

Kind = Literal["model", "dataset"]

MAX_TRIES = 4  # unanswered requests in a row; each waits HF_HUB_DOWNLOAD_TIMEOUT (10 s) at most
MAX_RETRY_AFTER = 60  # seconds that a busy Hub may ask us to wait
MAX_RESTARTS = 6  # times that a body is begun anew after a cut


def fetch(repo: str, file: str, revision: str | None, kind: Kind) -> Path:
    """Download one file of a repository, or take it from the cache, and check its bytes.

    Returns:
        Its path in the cache, `…/snapshots/<commit>/<file>`.

    Raises:
        PipelineError: what went wrong and what to do.
        MissingFile: the repository is there and does not hold the file.
    """
    with _spoken(repo, revision, kind, file):
        path = Path(hf_hub_download(repo, file, revision=revision, repo_type=kind))
        _check_bytes(path, file)
    return path


def fetch_matching(repo: str, patterns: list[str], revision: str, kind: Kind) -> Path:
    """Download the files of a repository that fit glob patterns (`*` crosses slashes).

    Returns:
        The folder in the cache that holds them at their paths, beside others fetched before.

    Raises:
        PipelineError: as `fetch`.
    """
    with _spoken(repo, revision, kind, "its files"):
        asked = {"revision": revision, "repo_type": kind, "allow_patterns": patterns}
        folder = Path(snapshot_download(repo, **asked))
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                _check_bytes(path, path.relative_to(folder).as_posix())
    return folder


def commit_of(path: Path, file: str) -> str:
    """The commit that a path from `fetch` belongs to."""
    return path.parents[file.count("/")].name


class MissingFile(PipelineError):
    """A repository on the Hub does not hold a file that was asked for."""


class WrongBytes(Exception):
    """A file, named in the text, does not have the checksum that the Hub states."""


class _Patience(threading.local):
    """Counts, for one thread, what the Hub left unanswered, and gives up after a while."""

    def __init__(self) -> None:
        self.unanswered = 0
        self.begun: dict[str, int] = {}

    def before(self, request: httpx2.Request) -> None:
        # huggingface_hub asks again with a minute's patience; a server that hangs would keep it.
        longest = max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
        given = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {
            part: min(given.get(part) or longest, longest)
            for part in ("connect", "read", "write", "pool")
        }
        if self.unanswered >= MAX_TRIES:
            self.unanswered = 0
            raise PipelineError(_unreachable())
        self.unanswered += 1

    def after(self, response: httpx2.Response) -> None:
        status = response.status_code
        if status in (408, 429) or status >= 500:
            wait = response.headers.get("Retry-After", "")
            too_long = wait.isdecimal() and int(wait) > MAX_RETRY_AFTER
            if too_long or self.unanswered >= MAX_TRIES:
                self.unanswered = 0
                raise PipelineError(_refused(status, wait))
            return
        self.unanswered = 0
        if response.request.method == "GET" and status == 200:
            self._count_restart(str(response.request.url))

    def _count_restart(self, url: str) -> None:
        self.begun[url] = self.begun.get(url, 0) + 1
        if self.begun[url] > MAX_RESTARTS:
            self.begun.clear()
            raise PipelineError(
                f"{_endpoint()} cut a download short {MAX_RESTARTS} times: "
                "check the network and run the same command again."
            )


_patience = _Patience()


def _client() -> httpx2.Client:
    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _patience.before],
        "response": [*hooks["response"], _patience.after],
    }
    return client


set_client_factory(_client)
logging.set_verbosity_error()  # its warnings of each retry; what comes of them is said here


@contextlib.contextmanager
def _spoken(repo: str, revision: str | None, kind: Kind, file: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence."""
    _patience.unanswered = 0
    _patience.begun.clear()
    try:
        yield
    except PipelineError:
        raise
    except WrongBytes as error:
        raise PipelineError(
            f"{error} of {repo} does not have the checksum that the Hub states; it was removed "
            "from the cache: run the same command again."
        ) from None
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise PipelineError(_not_cached(error, repo, revision, kind, file)) from None
        at = f" at revision {revision}" if revision else ""
        raise MissingFile(f"{repo} on the Hub holds no {file}{at}: check its page.") from None
    except (errors.HfHubHTTPError, httpx2.HTTPError, errors.OfflineModeIsEnabled) as error:
        raise PipelineError(_sentence(error, repo, revision, kind)) from None
    except errors.RevisionResolutionError:
        raise PipelineError(_unreachable()) from None
    except errors.HFValidationError:
        raise PipelineError(
            f"{repo!r} is neither a folder here nor an id on the Hub: "
            "an id looks like ntu-spml/distilhubert."
        ) from None
    except OSError as error:
        if error.errno is not None and error.errno != errno.EIO:
            raise  # the disk; runtime.run says what to do
        raise PipelineError(
            f"the download of {file} from {repo} was cut short or changed on the way: "
            "run the same command again."
        ) from None


def _not_cached(error: Exception, repo: str, revision: str | None, kind: Kind, file: str) -> str:
    cause = error.__cause__
    if isinstance(cause, errors.HfHubHTTPError):
        return _sentence(cause, repo, revision, kind)
    if constants.HF_HUB_OFFLINE or isinstance(cause, errors.OfflineModeIsEnabled):
        return (
            f"{file} of {repo} is not in the cache and HF_HUB_OFFLINE is set: "
            "unset it and run once with network."
        )
    if isinstance(cause, errors.FileMetadataError):
        return f"{_endpoint()} does not answer as a Hub does: check HF_ENDPOINT and any proxy."
    return _unreachable()


def _sentence(error: Exception, repo: str, revision: str | None, kind: Kind) -> str:
    """One sentence for an answer that huggingface_hub made an error of."""
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else None
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{repo} on the Hub has no revision {revision!r}: "
            "take a commit from its page, under Files, History."
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repo} is gated: ask for access on its page, log in with `hf auth login`, "
            "then run the same command again."
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return (
            f"the Hub has no {kind} {repo}, or shows it to its owner only (HTTP {status}): "
            "check the id; for a private one log in with `hf auth login`."
        )
    if isinstance(error, errors.DisabledRepoError):
        return f"{repo} was disabled on the Hub: take another {kind}."
    if status == 403:
        return (
            f"the Hub forbids access to {repo} (HTTP 403): "
            "ask for access on its page, or log in with a token that may read it."
        )
    if status is not None:
        return _refused(status, response.headers.get("Retry-After", ""))
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
        return f"{_endpoint()} broke off in the middle: run the same command again."
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo} is not in the cache and HF_HUB_OFFLINE is set: unset it and run once."
    return _unreachable()


def _refused(status: int, retry_after: str) -> str:
    if status == 429:
        wait = f"in {retry_after} s" if retry_after.isdecimal() else "later"
        return (
            f"{_endpoint()} allows no more requests for now (HTTP 429): run the same command "
            f"again {wait}, or log in with `hf auth login` for a higher limit."
        )
    return f"{_endpoint()} answers with HTTP {status}: run the same command again later."


def _unreachable() -> str:
    return (
        f"{_endpoint()} cannot be reached or does not answer: check the network, the proxy and "
        "HF_ENDPOINT, then run the same command again."
    )


def _endpoint() -> str:
    """The Hub's host, without a user or password that HF_ENDPOINT may hold."""
    parts = urlsplit(constants.ENDPOINT)
    return f"the Hub at {parts.hostname or 'an empty HF_ENDPOINT'}"


def _check_bytes(path: Path, file: str) -> None:
    """Hold a cached file against the checksum that names its blob: SHA-256, or Git's SHA-1.

    huggingface_hub itself compares the size alone. Where the cache has no symbolic links, there
    is no name to compare with.
    """
    if not path.is_symlink():
        return
    blob = path.parent / path.readlink()
    expected = blob.name
    if len(expected) not in (40, 64):
        return
    digest = hashlib.sha256() if len(expected) == 64 else hashlib.sha1()
    if len(expected) == 40:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise WrongBytes(file)
