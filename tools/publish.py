"""Put the exported model on the Hub: weights, ONNX, card and curves. No audio is ever sent.

The repository is private unless --public says otherwise. Nothing is sent before you agree.

    hf auth login
    python -m tools.publish you/distilhubert-finetuned-gtzan
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    ModelInfo,
    constants,
    errors,
    get_token,
    set_client_factory,
)
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils._http import default_client_factory

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.paths import EXPORT, METRICS
from genrepro.core.stage import log, run
from tools.results import CURVES

CARD = "README.md"
DEMO = "demo"  # the name of the corpus that the project composes itself
SENT = (  # folder, pattern in it, folder in the repository; what is not here stays here
    (EXPORT, CARD, ""),
    (EXPORT, "*.json", ""),
    (EXPORT, "*.safetensors", ""),
    (EXPORT, "onnx/*.onnx*", ""),
    (METRICS, "test.json", "metrics"),
    (METRICS, "labels.json", "metrics"),
    (METRICS, "plots/recall.csv", "metrics"),
    (METRICS, "plots/confusion.csv", "metrics"),
    (METRICS, "plots/reliability.csv", "metrics"),
    (CURVES, "**/*.tsv", "curves"),
)
KEPT = (".gitattributes",)  # the Hub's own
PATIENCE = 60  # seconds of silence; the client would else wait for ever
TOKENS = "https://huggingface.co/settings/tokens"


def main() -> None:
    args = _arguments()
    files = collect()
    card = ModelCard.load(EXPORT / CARD)
    _check_run(card)
    _check_demo(card, args.demo_too)
    _check_name(args.repo)
    set_client_factory(_client)
    api = HfApi(token=_token())
    with _spoken(args.repo):
        user = api.whoami()["name"]
        there = _existing(api, args.repo)
    stale = _check_existing(there, args, files)
    log(_plan(args, user, files, stale, there))
    if not args.yes:
        _ask()
    with _spoken(args.repo):
        warnings.simplefilter("ignore")  # the Hub's advice on cards, such as naming a licence
        if there is None:
            api.create_repo(args.repo, private=not args.public)
        operations = [CommitOperationAdd(name, path) for name, path in files.items()]
        operations += [CommitOperationDelete(name) for name in stale]
        api.create_commit(args.repo, operations, commit_message="Publish a model with its figures")
    log(f"published: {constants.ENDPOINT}/{args.repo}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repo", metavar="YOU/NAME", help="the repository to make or fill")
    parser.add_argument("--public", action="store_true", help="let everybody see it")
    parser.add_argument("--replace", action="store_true", help="replace the model that is there")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--demo-too", action="store_true", help="also a model of the demo's music")
    return parser.parse_args()


def collect() -> dict[str, Path]:
    """What would be sent: name in the repository -> file here.

    Raises:
        PipelineError: the pipeline has not run to its end.
    """
    files = {
        "/".join(filter(None, (target, path.relative_to(folder).as_posix()))): path
        for folder, pattern, target in SENT
        for path in sorted(folder.glob(pattern))
    }
    needed = {CARD, "config.json", "preprocessor_config.json", "metrics/test.json"}
    missing = sorted(needed - set(files))
    if missing or not any(name.endswith(".safetensors") for name in files):
        lacks = missing[0] if missing else "weights"
        raise PipelineError(f"there is no model to publish ({lacks} is missing): type `dvc repro`.")
    return files


def _check_run(card: ModelCard) -> None:
    """Refuse an export of another run than metrics/ tells of."""
    measured = json.loads((METRICS / "test.json").read_text(encoding="utf-8"))["accuracy"]
    stated = [
        result.metric_value
        for result in card.data.eval_results or []
        if result.metric_type == "accuracy"
    ]
    if stated != [measured]:
        raise PipelineError(
            f"{EXPORT / CARD} and {METRICS}/test.json are of different runs: type `dvc repro`."
        )


def _check_demo(card: ModelCard, demo_too: bool) -> None:
    trained_on = {result.dataset_type for result in card.data.eval_results or []}
    if DEMO in trained_on and not demo_too:
        raise PipelineError(
            "this model was trained on the demo's composed music and knows no real genre: "
            "train on real clips (`dvc exp run -S data.corpus=PATH -S model.id=NAME`), or add "
            "--demo-too."
        )


def _check_name(repo: str) -> None:
    try:
        validate_repo_id(repo)
    except errors.HFValidationError:
        repo = ""
    if repo.count("/") != 1:
        raise PipelineError(
            "the repository's name must look like you/distilhubert-finetuned-gtzan: your name or "
            "your organisation's on the Hub, a slash, and letters, digits, '-', '_' or '.'."
        )


def _token() -> str:
    token = get_token()
    if not token:
        raise PipelineError(
            "no token for the Hub is here: type `hf auth login`, or set HF_TOKEN to one with the "
            f"role write from {TOKENS}."
        )
    return token


def _client() -> httpx2.Client:
    client = default_client_factory()
    client.timeout = PATIENCE
    return client


def _existing(api: HfApi, repo: str) -> ModelInfo | None:
    try:
        return api.model_info(repo)
    except errors.RepositoryNotFoundError:
        return None


def _check_existing(
    there: ModelInfo | None, args: argparse.Namespace, files: dict[str, Path]
) -> list[str]:
    """Names of files to remove from a repository that is there, so that it holds one model.

    Raises:
        PipelineError: it holds something and --replace is not given, or everybody can see it and
            --public is not given.
    """
    if there is None:
        return []
    if there.private is False and not args.public:
        raise PipelineError(
            f"{args.repo} is there already and everybody can see it: add --public, "
            "or take another name."
        )
    held = [file.rfilename for file in there.siblings or [] if file.rfilename not in KEPT]
    if held and not args.replace:
        raise PipelineError(
            f"{args.repo} is there already and holds {len(held)} files, such as {held[0]}: "
            "add --replace to put this model in their place, or take another name."
        )
    return sorted(set(held) - set(files))


def _plan(
    args: argparse.Namespace,
    user: str,
    files: dict[str, Path],
    stale: list[str],
    there: ModelInfo | None,
) -> str:
    """What would happen, to be read before agreeing."""
    private = not args.public if there is None else there.private
    seen = "private" if private else "PUBLIC: everybody can see and download it"
    lines = [f"To {constants.ENDPOINT}/{args.repo} as {user}; {seen}:"]
    sizes = {name: path.stat().st_size for name, path in files.items()}
    lines += [f"  {size / 1e6:9.3f} MB  {name}" for name, size in sizes.items()]
    lines.append(f"  {sum(sizes.values()) / 1e6:9.3f} MB  in {len(files)} files; no audio")
    if stale:
        lines.append(f"Removed there, but kept in its history: {', '.join(stale)}")
    if private and args.public:
        lines.append(f"It was made private and stays so: change that in {args.repo}'s settings.")
    return "\n".join(lines)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise PipelineError("nothing was sent: there is nobody to ask here; add --yes to agree.")
    try:
        answer = input("Send this? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise PipelineError("nothing was sent, as you said.")


@contextlib.contextmanager
def _spoken(repo: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one sentence. A commit is all or nothing."""
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise PipelineError("HF_HUB_OFFLINE is set: unset it to publish.") from None
    except errors.HfHubHTTPError as error:
        raise PipelineError(_refusal(error, repo)) from None
    except ValueError as error:
        raise PipelineError(f"the Hub does not take this: {one_line(error)}") from None
    except (httpx2.HTTPError, RuntimeError, OSError) as error:
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise PipelineError(_refusal(cause, repo)) from None
        raise PipelineError(
            f"the connection to {constants.ENDPOINT} failed ({one_line(cause or error)}); {repo} "
            "holds no half of a model: run the same command again."
        ) from None


def _refusal(error: errors.HfHubHTTPError, repo: str) -> str:
    status = error.response.status_code
    if status == 401:
        return (
            "the Hub does not know this token (HTTP 401): type `hf auth login` with a new one "
            f"from {TOKENS}."
        )
    if status in (403, 404):
        return (
            f"this token may not write to {repo} (HTTP {status}): take one with the role write "
            f"from {TOKENS}, and a repository under your own name or your organisation's."
        )
    if status == 429 or status >= 500:
        return f"the Hub answers with HTTP {status}: run the same command again later."
    return f"the Hub refuses {repo} (HTTP {status}): {one_line(error.server_message or error)}."


if __name__ == "__main__":
    run(main)
