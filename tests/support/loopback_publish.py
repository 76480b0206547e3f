"""A Hub on this machine that takes models and Spaces: what huggingface_hub needs to fill one.

Follows https://huggingface.co/docs/hub/api and Git LFS' batch API. A commit is all or nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_good"
READ_ONLY = "hf_read"
USER = "ada"
SHA = "0" * 40


class LoopbackPublish:
    """Serves until `close`; `url` is for HF_ENDPOINT.

    `files` and `private` hold each repository, a Space under "spaces/<its name>"; `cards` the cards
    sent for validation; `asked` counts requests by step. `cut[step]` is how many requests of a step
    get no answer. With `xet`, a folder, hf_xet puts large files there, and `files` holds their
    SHA-256 instead.
    """

    def __init__(self) -> None:
        self.xet: Path | None = None
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.blobs: dict[str, bytes] = {}
        self.cards: list[str] = []
        self.asked: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackPublish
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self._body()
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api":
            parts = parts[1:]
        step, repo = self._step(parts)
        self.hub.asked[step] += 1
        if self.hub.cut[step] > 0:
            self.hub.cut[step] -= 1
            self.close_connection = True
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if step in ("upload", "validate", "unknown"):  # a signed address, or open to all
            pass
        elif token not in (TOKEN, READ_ONLY):
            return self._error(401, "Invalid username or password.")
        elif step not in ("whoami", "info") and token == READ_ONLY:
            return self._error(403, "Your token does not have the rights to do this.")
        getattr(self, f"_{step}")(repo, body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    @staticmethod
    def _step(parts: list[str]) -> tuple[str, str]:
        """The step that a request is for, and its repository (or blob)."""
        match parts:
            case ["spaces", *rest]:
                step, name = _Handler._step(rest if "info" in rest else ["models", *rest])
                return step, f"spaces/{name}"
            case ["whoami-v2"]:
                return "whoami", ""
            case ["validate-yaml"]:
                return "validate", ""
            case ["repos", "create"]:
                return "create", ""
            case ["models", owner, name]:
                return "info", f"{owner}/{name}"
            case ["models", owner, name, ("preupload" | "commit") as step, _]:
                return step, f"{owner}/{name}"
            case ["models", owner, name, "xet-write-token", _]:
                return "xet", f"{owner}/{name}"
            case [owner, name, "info", "lfs", "objects", "batch"]:
                return "batch", f"{owner}/{name.removesuffix('.git')}"
            case ["blobs", oid]:
                return "upload", oid
        return "unknown", ""

    def _whoami(self, repo: str, body: bytes) -> None:
        self._json({"type": "user", "name": USER, "orgs": [], "auth": {}})

    def _validate(self, repo: str, body: bytes) -> None:
        """Check the rules of https://huggingface.co/docs/hub/model-cards that a card can break."""
        asked = json.loads(body)
        card = asked["content"]
        self.hub.cards.append(card)
        problems = problems_of(card)
        if asked["repoType"] == "space":
            problems += space_problems(card)
        found = {"errors": [{"message": problem} for problem in problems], "warnings": []}
        self._json(found, 400 if problems else 200)

    def _create(self, repo: str, body: bytes) -> None:
        asked = json.loads(body)
        owner = asked.get("organization") or USER
        name = f"{owner}/{asked['name']}"
        if asked.get("type") == "space":
            assert asked["sdk"] == "static"
            name = f"spaces/{name}"
        if owner != USER:
            return self._error(403, f"You don't have the rights to create a model under {owner}")
        if name in self.hub.files:
            return self._error(409, "You already created this model repo")
        self.hub.files[name] = {".gitattributes": b"*.safetensors filter=lfs\n"}
        self.hub.private[name] = asked.get("visibility") == "private"
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def _info(self, repo: str, body: bytes) -> None:
        if repo not in self.hub.files:
            return self._error(404, "Repository not found", "RepoNotFound")
        siblings = [{"rfilename": name} for name in sorted(self.hub.files[repo])]
        name = repo.removeprefix("spaces/")
        about = {"id": name, "sha": SHA, "private": self.hub.private[repo], "tags": []}
        self._json(about | {"siblings": siblings, "downloads": 0, "likes": 0, "gated": False})

    def _preupload(self, repo: str, body: bytes) -> None:
        large = (".safetensors", ".onnx", ".wasm")
        self._json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(large) else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        )

    def _batch(self, repo: str, body: bytes) -> None:
        objects = json.loads(body)["objects"]
        for each in objects:
            if each["oid"] not in self.hub.blobs:
                each["actions"] = {"upload": {"href": f"{self.hub.url}/blobs/{each['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, oid: str, body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.blobs[oid] = body
        self._json({})

    def _xet(self, repo: str, body: bytes) -> None:
        """Tell hf_xet where to put large files; "local://" is a folder on this disk."""
        if self.hub.xet is None:
            return self._error(404, "no Xet here")
        self._json({"casUrl": f"local://{self.hub.xet}", "accessToken": "x", "exp": 2**40})

    def _commit(self, repo: str, body: bytes) -> None:
        files = dict(self.hub.files[repo])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                blobs, oid = self.hub.blobs, value["oid"]
                files[value["path"]] = oid.encode() if self.hub.xet else blobs[oid]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        self.hub.files[repo] = files
        done = {
            "success": True,
            "commitOid": SHA,
            "commitUrl": f"{self.hub.url}/{repo}/commit/{SHA}",
        }
        self._json(done | {"hookOutput": "", "pullRequestUrl": None})

    def _unknown(self, repo: str, body: bytes) -> None:
        self._error(404, "Not Found")

    def _error(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._json({"error": message}, status, headers)

    def _json(self, content: object, status: int = 200, headers: dict | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


def space_problems(card: str) -> list[str]:
    """What breaks the rules of https://huggingface.co/docs/hub/spaces-config-reference."""
    metadata = yaml.safe_load(card.split("---\n", 2)[1])
    rules = {
        "title": isinstance(metadata.get("title"), str),
        "sdk": metadata.get("sdk") in ("gradio", "docker", "static"),
        "colorFrom": metadata.get("colorFrom") in COLOURS,
        "colorTo": metadata.get("colorTo") in COLOURS,
        "emoji": len(metadata.get("emoji", "")) == 1,
        "short_description": len(metadata.get("short_description", "")) <= 60,
        "models": all("/" in each for each in metadata.get("models", [])),
    }
    return [f'"{key}" is not valid' for key, valid in rules.items() if not valid]


def problems_of(card: str) -> list[str]:
    """What the Hub would refuse in a card's metadata."""
    _, block, _ = card.split("---\n", 2)
    metadata = yaml.safe_load(block)
    problems = [
        f'"{key}" must be a list of strings'
        for key in ("tags", "metrics", "datasets")
        if not all(isinstance(each, str) for each in metadata.get(key, []))
    ]
    for model in metadata.get("model-index", []):
        if not model.get("name"):
            problems.append('"model-index[0].name" is required')
        for result in model["results"]:
            for part, keys in (("task", ["type"]), ("dataset", ["type", "name"])):
                problems += [
                    f'"{part}.{key}" is required' for key in keys if not result[part].get(key)
                ]
            for metric in result["metrics"]:
                if not isinstance(metric.get("value"), int | float) or metric["value"] is None:
                    problems.append(f'"metrics.{metric.get("type")}.value" is required')
    return problems
