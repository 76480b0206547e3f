"""Download files from the Hugging Face Hub, check their bytes, and explain what went wrong.

huggingface_hub does the work: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and its timeouts mean
here what they mean there. Messages never quote an address or a header, where tokens travel.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import (
    constants,
    errors,
    get_cached_repo_tree,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)

from genrepro.core.errors import PipelineError, one_line

Kind = Literal["model", "dataset", "space"]

TOKENS = "https://huggingface.co/settings/tokens"
WAITS = (1, 2, 4)  # seconds before asking again a Hub that is busy or does not answer
MAX_RETRY_AFTER = 60  # seconds that a busy Hub may ask us to wait

# By the type of the error or the HTTP status; the first match counts.
MESSAGES: dict[type[Exception] | tuple[type[Exception], ...] | int, str] = {
    errors.OfflineModeIsEnabled: "{file} of {repo} is not in the cache and HF_HUB_OFFLINE is set: "
    "unset it and run once with network.",
    errors.RevisionNotFoundError: "{repo} on the Hub has no revision {revision!r}: "
    "take a commit from its page, under Files, History.",
    errors.GatedRepoError: "{repo} is gated: ask for access on its page, log in with "
    "`hf auth login`, then run the same command again.",
    errors.RepositoryNotFoundError: "the Hub has no {kind} {repo}, or shows it to its owner only "
    "(HTTP {status}): check the id; for a private one log in with `hf auth login`.",
    errors.DisabledRepoError: "{repo} was disabled on the Hub: use another {kind}.",
    401: "the Hub does not accept this token (HTTP 401): type `hf auth login` with a new one from "
    f"{TOKENS}.",
    403: "the Hub does not let you {action} {repo} (HTTP 403): ask its owner for access, and log "
    f"in with a token that has the right to {{action}} it ({TOKENS}).",
    429: "{hub} allows no more requests for now (HTTP 429): run the same command again {later}, "
    "or log in with `hf auth login` for a higher limit.",
    errors.BadRequestError: "the Hub refuses {repo} (HTTP {status}): {words}.",
    errors.HfHubHTTPError: "{hub} answers with HTTP {status}: run the same command again later.",
    errors.HFValidationError: "{repo!r} is neither a folder here nor an id on the Hub: an id looks "
    "like ntu-spml/distilhubert.",
    errors.FileMetadataError: "{hub} does not answer as a Hub does: check HF_ENDPOINT and any "
    "proxy.",
    (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError): "{hub} broke off in the "
    "middle: run the same command again.",
    (httpx2.HTTPError, errors.RevisionResolutionError): "{hub} cannot be reached or does not "
    "answer: check the network, the proxy and HF_ENDPOINT, then run the same command again.",
    ValueError: "the Hub does not take this: {words}.",
    OSError: "the transfer of {file} was cut short or changed on the way: run the same command "
    "again.",
    RuntimeError: "the transfer of {file} failed: run the same command again, with "
    "HF_HUB_DISABLE_XET=1 if that does not help.",  # hf_xet raises these
}
_BUILTIN = (OSError, RuntimeError, ValueError)


class MissingFile(PipelineError):
    """A repository on the Hub does not hold a file that was asked for."""


def fetch(repo: str, file: str, revision: str | None, kind: Kind) -> Path:
    """Download one file of a repository, or take it from the cache, and check its bytes.

    Returns:
        Its path in the cache, `…/snapshots/<commit>/<file>`.

    Raises:
        PipelineError: what went wrong and what to do.
        MissingFile: the repository exists and does not hold the file.
    """
    what: dict[str, Any] = {"revision": revision, "repo_type": kind}
    with explained(repo, kind=kind, revision=revision, file=file):
        found = try_to_load_from_cache(repo, file, **what)  # or a mark that the file does not exist
        if not (found and re.fullmatch("[0-9a-f]{40}", revision or "")):  # a branch moves
            try:
                _wait_for_answer(repo, file, revision, kind)
                found = hf_hub_download(repo, file, **what)
            except (httpx2.HTTPError, errors.OfflineModeIsEnabled) as error:
                gone = isinstance(error, errors.EntryNotFoundError | errors.RevisionNotFoundError)
                if gone or not found:
                    raise
        if not isinstance(found, str):
            raise MissingFile(_missing(repo, file, revision))
        _check_bytes(Path(found), repo, file)
    return Path(found)


def fetch_matching(repo: str, patterns: list[str], revision: str, kind: Kind) -> Path:
    """Download the files of a repository that match glob patterns (`*` crosses slashes).

    Args:
        revision: a full commit.

    Returns:
        The folder in the cache that holds them at their paths, beside others fetched before.

    Raises:
        PipelineError: as `fetch`.
    """
    what: dict[str, Any] = {"revision": revision, "repo_type": kind}
    with explained(repo, kind=kind, revision=revision, file="a file"):
        try:
            get_cached_repo_tree(repo, **what)  # the list against which the cache is checked
            found = snapshot_download(repo, **what, allow_patterns=patterns, local_files_only=True)
        except (errors.CachedRepoTreeNotFoundError, errors.LocalEntryNotFoundError):
            _wait_for_answer(repo, "README.md", revision, kind)
            found = snapshot_download(repo, **what, allow_patterns=patterns)
        for path in sorted(Path(found).rglob("*")):
            if path.is_file():
                _check_bytes(path, repo, path.relative_to(found).as_posix())
    return Path(found)


def commit_of(path: Path, file: str) -> str:
    """The commit that a path from `fetch` belongs to."""
    return path.parents[file.count("/")].name


@contextlib.contextmanager
def explained(
    repo: str,
    *,
    kind: Kind = "model",
    revision: str | None = None,
    file: str = "a file",
    action: str = "read",
) -> Iterator[None]:
    """Turn what huggingface_hub raises about a repository into one sentence.

    Args:
        action: what the block does with the repository, for the message: "read" or "write to".

    Raises:
        PipelineError: the sentence.
        MissingFile: as `fetch`.
        OSError: the disk is full or cannot be written.
    """
    try:
        yield
    except PipelineError:
        raise
    except errors.RemoteEntryNotFoundError:
        raise MissingFile(_missing(repo, file, revision)) from None
    except (httpx2.HTTPError, errors.RevisionResolutionError, *_BUILTIN) as error:
        reason: BaseException = error
        if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and error.__cause__:
            reason = error.__cause__
        if isinstance(reason, OSError) and reason.errno is not None:
            raise reason from None  # core.errors explains the disk's errors
        raise PipelineError(_explain(reason, repo, kind, revision, file, action)) from None


def _explain(
    error: BaseException, repo: str, kind: str, revision: str | None, file: str, action: str
) -> str:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else None
    wait = _retry_after(error)
    template = next(
        text
        for key, text in MESSAGES.items()
        if (status == key if isinstance(key, int) else isinstance(error, key))
    )
    return template.format(
        repo=repo,
        kind=kind,
        revision=revision,
        file=file,
        action=action,
        status=status,
        later=f"in {wait} s" if wait else "later",
        hub=f"the Hub at {endpoint() or 'an empty HF_ENDPOINT'}",
        words=one_line(getattr(error, "server_message", None) or error),
    )


def _missing(repo: str, file: str, revision: str | None) -> str:
    at = f" at revision {revision}" if revision else ""
    return f"{repo} on the Hub has no file {file}{at}: check its page."


def endpoint() -> str:
    """The Hub's address, without a user, password or query that HF_ENDPOINT may hold."""
    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _wait_for_answer(repo: str, file: str, revision: str | None, kind: Kind) -> None:
    """Ask for a file's metadata, a few times; any answer but "busy" will do.

    huggingface_hub alone gives a Hub that hangs 6 minutes, or no limit at all where it lists files,
    and waits as long as a busy Hub asks it to.
    """
    url = hf_hub_url(repo, file, revision=revision, repo_type=kind)
    for wait in (*WAITS, None):
        try:
            get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return
        except errors.EntryNotFoundError:
            return
        except httpx2.HTTPError as error:
            response = getattr(error, "response", None)
            busy = response is None or response.status_code in (408, 429, 500, 502, 503, 504)
            if wait is None or not busy or _retry_after(error) > MAX_RETRY_AFTER:
                raise
            time.sleep(max(wait, _retry_after(error)))


def _retry_after(error: BaseException) -> int:
    response = getattr(error, "response", None)
    seconds = response.headers.get("Retry-After", "") if response is not None else ""
    return int(seconds) if seconds.isdecimal() else 0


def _check_bytes(path: Path, repo: str, file: str) -> None:
    """Compare a cached file with the checksum that names its blob: SHA-256, or Git's SHA-1.

    huggingface_hub compares the size alone. Where the cache has no symbolic links, there is no name
    to compare with.
    """
    if not path.is_symlink():
        return
    blob = path.parent / path.readlink()
    if len(blob.name) not in (40, 64):
        return
    digest = hashlib.sha256() if len(blob.name) == 64 else hashlib.sha1()
    if len(blob.name) == 40:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != blob.name:
        for each in (path.resolve(), blob, path):  # the first is in the store that blobs share
            each.unlink(missing_ok=True)
        raise PipelineError(
            f"{file} of {repo} does not have the checksum that the Hub states; it was removed from "
            "the cache: run the same command again."
        )
