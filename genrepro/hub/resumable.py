"""Large files of the Hub, downloaded so that a killed process goes on where it stopped.

huggingface_hub resumes a body that the network cuts, but each of its downloads writes to a file
with a name of its own, which no later process takes up, be it over HTTP or Xet. There is no option
for that (huggingface_hub#4228 tells why), so a large file is fetched here, with its `http_get`,
and put among the cache's blobs, where `hf_hub_download` then finds it.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import DryRunFileInfo, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from genrepro.core.files import sha256

LARGE = 1_000_000  # bytes; below, starting over costs less than asking


class WrongBytes(Exception):
    """A file, named in the text, does not have the checksum that the Hub states."""


def into_cache(repo: str, kind: str, file: DryRunFileInfo) -> None:
    """Put a large file that the cache lacks among its blobs, going on from an earlier attempt.

    What is small, cached or too large for plain HTTP is left to `hf_hub_download`.

    Args:
        kind: "model" or "dataset".
        file: what `hf_hub_download(…, dry_run=True)` says of it.

    Raises:
        WrongBytes: its SHA-256, also after starting over, is not the Hub's; nothing is kept.
        HfHubHTTPError, httpx2.HTTPError, OSError: as `hf_hub_download`; what came is kept.
    """
    size = file.file_size or 0
    if not file.will_download or not LARGE <= size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
        return
    # The Hub's address, not the storage's that it leads to: that one expires, and httpx2 sends no
    # token along when it is led to another host.
    url = hf_hub_url(repo, file.filename, repo_type=kind, revision=file.commit_hash)
    digest = get_hf_file_metadata(url, retry_on_errors=True).etag or ""
    if len(digest) != 64:
        return  # kept in Git, by its SHA-1: never very large
    cache, name = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo, repo_type=kind)
    blob, lock = cache / name / "blobs" / digest, cache / ".locks" / name / f"{digest}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):  # the one that hf_hub_download takes
        if not blob.exists():
            _download(url, blob.with_name(f"{digest}.part"), size, digest, file.filename)
            blob.with_name(f"{digest}.part").replace(blob)


def _download(url: str, part: Path, size: int, digest: str, name: str) -> None:
    """Make `part` the whole file. Bytes that an earlier process left are trusted once."""
    resumed = part.exists()
    try:
        _append(url, part, size, name)
    except HfHubHTTPError as error:
        if error.response.status_code != 416:
            raise
        part.write_bytes(b"")  # the storage has no such range: what is here is not of that file
        _append(url, part, size, name)
    if sha256(part) == digest:
        return
    part.unlink()
    if not resumed:
        raise WrongBytes(name)
    _download(url, part, size, digest, name)


def _append(url: str, part: Path, size: int, name: str) -> None:
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}  # ranges of the file itself
    with part.open("ab") as target:
        if target.tell() > size:
            target.seek(0)
            target.truncate()
        http_get(
            url,
            target,
            resume_size=target.tell(),
            headers=headers,
            expected_size=size,
            displayed_filename=name,
        )
