"""A Hub on this machine: as much of its protocol as huggingface_hub and datasets use.

Repositories are dicts of files at one commit. Large files are served as the real Hub does: by a
redirect to another host, with the file's SHA-256 and size in headers. A repository named
`fails/<how>` fails on purpose; see `FAILURES`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

OWNER = "hf_MayReadWhatIsClosed"  # a token
LARGE = 10_000  # bytes; above, a file is in large-file storage
PIECE = 1_000_000  # bytes of a body that are sent at once
FAILURES = {
    "401": "refuses the token",
    "403": "forbids",
    "404": "not found",
    "429": "asks to wait for an hour",
    "429-once": "asks to wait for a second, once, then answers",
    "500": "answers with an error of its own",
    "500-once": "does so once, then answers",
    "hang": "does not answer",
    "cut": "sends half of each large file, and no more",
    "cut-once": "does so the first time, then resumes where it stopped",
    "wrong": "sends other bytes than its checksum says, as many of them",
    "not-a-hub": "answers with a web page",
}


class LoopbackHub:
    """Serves until `close`; `url` is for HF_ENDPOINT.

    `asked` counts requests by method and path, `tokens` holds each authorization header with the
    name of the host that it was sent to, `ranges` the ranges requested of large files, and `sent`
    counts the bytes of their bodies. With `hold_after`, a body pauses after so many bytes. Large
    files of the repositories in `xet` also name an address for Xet, where nobody answers. Only the
    token OWNER can read repositories named `…/private` or `…/gated`.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], tuple[str, dict[str, bytes]]] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.tokens: set[tuple[str, str]] = set()
        self.ranges: list[str] = []
        self.sent = 0
        self.hold_after: int | None = None
        self.xet: set[str] = set()
        self.xet_url = "http://127.0.0.1:9"
        self.released = threading.Event()  # lets hanging requests go
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, kind: str, repo: str, files: dict[str, bytes], commit: str) -> None:
        """Hold a repository of `kind` models or datasets."""
        self.repos[kind, repo] = (commit, files)
        for content in files.values():
            if len(content) > LARGE:
                self.blobs[hashlib.sha256(content).hexdigest() + "-" + repo] = content

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked[f"{self.command} {path}"] += 1
        host = self.headers["host"].split(":")[0]
        self.hub.tokens.add((host, self.headers.get("authorization", "")))
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            self._send_blob(parts[1], "/".join(parts[2:]))
        elif parts[0] == "xet":
            access = {"Cas-Url": self.hub.xet_url, "Access-Token": "x", "Token-Expiration": 2**40}
            self._send(200, b"", {f"X-Xet-{name}": str(value) for name, value in access.items()})
        elif parts[0] == "api" and len(parts) < 4:
            self._error(404, "", "not of a repository")
        elif parts[0] == "api":
            kind, owner, name, *rest = parts[1:]
            self._api(kind, f"{owner}/{name}", rest)
        else:
            kind = parts.pop(0) if parts[0] in ("datasets", "spaces") else "models"
            owner, name, *rest = parts
            self._resolve(kind, f"{owner}/{name}", rest)

    def _found(self, kind: str, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and files of a repository, or an answer sent and None."""
        if self._fails(repo):
            return None
        stranger = self.headers.get("authorization") != f"Bearer {OWNER}"
        if (kind, repo) not in self.hub.repos or (repo.endswith("/private") and stranger):
            # The real Hub answers 401 to somebody without a login, so as not to say what exists.
            self._error(401, "RepoNotFound", "Invalid username or password.")
            return None
        commit, files = self.hub.repos[kind, repo]
        if revision not in ("main", commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit, files

    def _api(self, kind: str, repo: str, rest: list[str]) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        if not (found := self._found(kind, repo, revision)):
            return
        commit, files = found
        if rest[:1] == ["tree"]:
            self._json([self._entry(name, content) for name, content in sorted(files.items())])
        else:
            siblings = [{"rfilename": name} for name in sorted(files)]
            about = {"id": repo, "sha": commit, "private": False, "gated": False, "tags": []}
            self._json(about | {"siblings": siblings, "downloads": 0, "likes": 0})

    @staticmethod
    def _entry(name: str, content: bytes) -> dict:
        entry = {"type": "file", "path": name, "size": len(content), "oid": _git_sha1(content)}
        if len(content) > LARGE:
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return entry

    def _resolve(self, kind: str, repo: str, rest: list[str]) -> None:
        revision, name = rest[1], "/".join(rest[2:])
        if not (found := self._found(kind, repo, revision)):
            return
        if repo.endswith("/gated") and self.headers.get("authorization") != f"Bearer {OWNER}":
            self._error(403, "GatedRepo", "Access to this repository is restricted.")
            return
        commit, files = found
        if name not in files:
            headers = {"X-Repo-Commit": commit}
            self._error(404, "EntryNotFound", "Entry not found", headers)
            return
        content = files[name]
        if len(content) <= LARGE:
            headers = {"ETag": f'"{_git_sha1(content)}"', "X-Repo-Commit": commit}
            self._send(200, content, headers)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"http://localhost:{self.hub.port}/cdn/{sha256}-{repo}?Signature=secret",
        }
        if repo in self.hub.xet:
            headers |= {"X-Xet-Hash": sha256, "X-Xet-Refresh-Route": f"{self.hub.url}/xet"}
        self._send(302, b"", headers)

    def _send_blob(self, owner_key: str, name: str) -> None:
        content = self.hub.blobs[f"{owner_key}/{name}"]
        how = name if owner_key.endswith("-fails") else ""
        if how == "wrong":
            content = content[::-1]
        first = 0
        if asked := self.headers.get("Range"):
            self.hub.ranges.append(asked)
            first = int(asked.removeprefix("bytes=").split("-")[0])
        headers = {"ETag": '"cdn"', "Accept-Ranges": "bytes"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        times = self.hub.asked[f"GET /cdn/{owner_key}/{name}"]
        if how == "cut" and first:
            content = content[: first + 1]  # of which half is nothing
        cut = how == "cut" or (how == "cut-once" and times == 1)
        self._send(206 if first else 200, content[first:], headers, cut)

    def _fails(self, repo: str) -> bool:
        owner, _, how = repo.partition("/")
        first = self.hub.asked[repo] == 0
        self.hub.asked[repo] += 1
        if owner != "fails" or how.startswith(("cut", "wrong")):
            return False
        if how.endswith("-once") and not first:
            return False
        if how == "hang":
            self.hub.released.wait(60)
            self.close_connection = True
        elif how == "not-a-hub":
            self._send(200, b"<html>Log in to this hotel's network</html>", {})
        else:
            wait = {"429": "3600", "429-once": "1"}.get(how)
            status = int(how.removesuffix("-once"))
            code = "RepoNotFound" if status == 404 else ""
            self._error(status, code, "on purpose", {"Retry-After": wait} if wait else {})
        return True

    def _error(self, status: int, code: str, message: str, headers: dict | None = None) -> None:
        given = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), given | (headers or {}))

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self._write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            time.sleep(0.05)
            self.close_connection = True

    def _write(self, body: bytes) -> None:
        for start in range(0, len(body), PIECE):
            if self.hub.hold_after is not None and start >= self.hub.hold_after:
                self.hub.released.wait(60)
            piece = body[start : start + PIECE]
            self.wfile.write(piece)
            self.hub.sent += len(piece) if len(body) > LARGE else 0


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
