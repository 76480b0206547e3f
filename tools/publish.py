"""Put the exported model on the Hub: weights, ONNX, card and curves. No audio is ever sent.

The repository is private unless --public says otherwise. Nothing is sent before you agree. The card
gets a confusion matrix, what tools.robustness measured on this model and, if the last
commit is pushed, a link to this repository.

    hf auth login
    python -m tools.publish you/distilhubert-finetuned-gtzan

With --space it puts the page of tools.page into a static Space of the same name, which links to the
model there.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import warnings
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    SpaceInfo,
    constants,
    errors,
    get_token,
)
from huggingface_hub.utils import validate_repo_id

from genrepro.core.errors import PipelineError
from genrepro.core.paths import DATA, EXPORT, LIVE_CURVES, METRICS, PREDICTIONS, TEST
from genrepro.core.stage import log, run
from genrepro.hub.client import TOKENS, Kind, endpoint, explained
from tools.baseline import git

CARD = "README.md"
PICTURE = "confusion.png"
DEMO = "demo"  # the name of the corpus that the project composes itself
SENT = (  # folder, pattern in it, folder in the repository; nothing else is sent
    (EXPORT, CARD, ""),
    (EXPORT, "*.json", ""),
    (EXPORT, "*.safetensors", ""),
    (EXPORT, "onnx/*.onnx*", ""),
    (EXPORT, "onnx/mel_filters.npy", ""),
    (EXPORT, "classify.py", ""),
    (METRICS, "test.json", "metrics"),
    (METRICS, "labels.json", "metrics"),
    (METRICS, "plots/recall.csv", "metrics"),
    (METRICS, "plots/confusion.csv", "metrics"),
    (METRICS, "plots/reliability.csv", "metrics"),
    (LIVE_CURVES, "**/*.tsv", "curves"),
)
KEPT = ".gitattributes"  # the Hub's own


def main() -> None:
    args = _arguments()
    kind: Kind = "space" if args.space else "model"
    files: dict[str, Path | bytes] = dict(collect())  # also says if the pipeline has not run
    card = (EXPORT / CARD).read_text(encoding="utf-8")
    check_run(card)
    _check_demo(args.demo_too)
    _check_name(args.repo)
    api = HfApi(token=_token())
    with explained(args.repo, kind=kind, action="write to"):
        model = existing = _existing(api, args.repo, "model")
        if args.space:
            existing = _existing(api, args.repo, "space")
        user = api.whoami()["name"]
    source = pushed_commit()
    remark = ""
    if args.space:
        from tools import page  # transformers takes seconds; a refusal need not wait for it

        _check_linked(model, args)
        files = dict(page.collect(page.runtime(None), args.repo))
        files[CARD] = page.readme(args.repo, source).encode()
    else:
        robustness, remark = _robustness()
        files |= {CARD: published(card, source, robustness).encode(), PICTURE: _confusion()}
    stale = _check_existing(existing, args, files)
    log(_plan(args, user, files, stale, existing, source))
    if remark:
        log(remark)
    if not args.yes:
        _ask()
    with explained(args.repo, kind=kind, action="write to"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Hub's advice on cards, such as naming a licence
        if existing is None:
            api.create_repo(
                args.repo,
                repo_type=kind,
                space_sdk="static" if args.space else None,
                private=not args.public,
            )
        # One commit, so that all or nothing is there; upload_folder may make several of them.
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, each) for name, each in files.items()
        ]
        operations += [CommitOperationDelete(name) for name in stale]
        message = f"Publish a {'page' if args.space else 'model with its figures'}"
        api.create_commit(args.repo, operations, repo_type=kind, commit_message=message)
    log(f"published: {_address(args)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repo", metavar="YOU/NAME", help="the repository to create or fill")
    parser.add_argument(
        "--space", action="store_true", help="send the page for browsers, not the model"
    )
    parser.add_argument("--public", action="store_true", help="let everyone see it")
    parser.add_argument("--replace", action="store_true", help="replace what it holds")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--demo-too", action="store_true", help="publish a model trained on the demo's music"
    )
    return parser.parse_args()


def collect() -> dict[str, Path]:
    """List what would be sent: name in the repository -> local file.

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
    missing += [str(path) for path in (DATA, PREDICTIONS) if not path.exists()]
    if missing or not any(name.endswith(".safetensors") for name in files):
        lacks = missing[0] if missing else "weights"
        raise PipelineError(f"there is no model to publish ({lacks} is missing): type `dvc repro`.")
    return files


def pushed_commit() -> tuple[str, str] | None:
    """The web page of this repository and its commit, if that commit has been pushed.

    None if tracked files differ from the last commit, or no remote with a page is known to have it.
    """
    if git("status", "--porcelain", "--untracked-files=no"):
        return None
    branches = git("branch", "--remotes", "--contains", "HEAD", "--format=%(refname:lstrip=2)")
    remotes = dict.fromkeys(branch.split("/")[0] for branch in branches.split())
    pages = (page_of(git("remote", "get-url", remote).strip()) for remote in remotes)
    page = next(filter(None, pages), None)
    return (page, git("rev-parse", "HEAD").strip()) if page else None


def page_of(address: str) -> str | None:
    """The web page of a Git remote, without the user and the token that its address may hold.

    None for a folder, and for a host without a domain.
    """
    web = r"(?P<web>https?://)(?:[^/@]*@)?"
    ssh = r"(?:ssh://)?[^/@:]+@"
    host = r"(?P<host>[^/@:]+\.[^/@:]+)(?P<port>:\d+(?=/))?"
    match = re.fullmatch(rf"(?:{web}|{ssh}){host}[:/](?P<path>.+?)(?:\.git)?/?", address)
    if match is None:
        return None
    place = f"{match['host']}{match['port'] or ''}" if match["web"] else match["host"]
    return f"{match['web'] or 'https://'}{place}/{match['path']}"


def published(card: str, source: tuple[str, str] | None, robustness: str = "") -> str:
    """The card as it is sent: with the picture, a section on robustness, and where it was made.

    None can be on the card in export/, whose bytes depend on the run alone.
    """
    heading = "## By label\n"
    card = card.replace(heading, f"{heading}\n![Confusion on the test clips]({PICTURE})\n", 1)
    if robustness:
        card = card.replace("## Split\n", f"{robustness}\n## Split\n", 1)
    if source is None:
        return card
    page, commit = source
    return card.replace("Made with genrepro", f"Made with [genrepro]({page}) at `{commit}`", 1)


def _robustness() -> tuple[str, str]:
    """The section on robustness, empty if there are no figures of this model; and a remark."""
    from tools import results  # pandas, too, takes its time

    try:
        found = results.robustness()
    except PipelineError as error:
        return "", f"The card says nothing on robustness: {error}"
    from tools.robustness import section  # imports torch

    return section(found), "The card has a section on robustness."


def _confusion() -> bytes:
    from tools import figures, pictures  # matplotlib takes a second; a refusal need not wait for it

    figures.use_style()
    picture = io.BytesIO()
    figures.save(pictures.confusion(), picture)
    return picture.getvalue()


def check_run(card: str) -> None:
    """Refuse an export that is not of the run in metrics/."""
    measured = json.loads(TEST.read_text(encoding="utf-8"))
    rows = (("accuracy", "accuracy"), ("loss (cross-entropy)", "loss"))
    if not all(f"\n| {name} | {measured[key]:.4f} |" in card for name, key in rows):
        raise PipelineError(
            f"{EXPORT / CARD} and {TEST} come from different runs: type `dvc repro`."
        )


def _check_demo(demo_too: bool) -> None:
    corpus = json.loads(DATA.read_text(encoding="utf-8"))["corpus"]["name"]
    if corpus == DEMO and not demo_too:
        raise PipelineError(
            "this model was trained on the demo's generated music and knows no real genre: "
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
            "there is no token for the Hub: type `hf auth login`, or set HF_TOKEN to one with the "
            f"role write from {TOKENS}."
        )
    return token


def _existing(api: HfApi, repo: str, kind: Kind) -> ModelInfo | SpaceInfo | None:
    info = api.space_info if kind == "space" else api.model_info
    try:  # the only request here with a timeout, so the first: whoami would wait for ever
        return info(repo, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except errors.RepositoryNotFoundError:
        return None


def _check_linked(model: ModelInfo | SpaceInfo | None, args: argparse.Namespace) -> None:
    """Refuse a Space whose visitors would not find the model that it links to."""
    if model is None:
        raise PipelineError(
            f"the page links to the model {args.repo}, which is not on the Hub yet: type "
            f"`python -m tools.publish {args.repo}` first."
        )
    if model.private and args.public:
        raise PipelineError(
            f"everyone could see the page, but not the model {args.repo} that it links to: make "
            "that public in its settings on the Hub first, or leave out --public."
        )


def _check_existing(
    existing: ModelInfo | SpaceInfo | None, args: argparse.Namespace, files: dict[str, Path | bytes]
) -> list[str]:
    """Name the files to remove from an existing repository, so that it holds one model or page.

    Raises:
        PipelineError: it holds something and --replace is not given, or everyone can see it and
            --public is not given.
    """
    if existing is None:
        return []
    if existing.private is False and not args.public:
        raise PipelineError(
            f"{args.repo} exists already and everyone can see it: add --public, "
            "or choose another name."
        )
    held = {file.rfilename for file in existing.siblings or []} - {KEPT}
    if held and not args.replace:
        raise PipelineError(
            f"{args.repo} exists already and holds {len(held)} files, such as {min(held)}: "
            f"add --replace to put this {'page' if args.space else 'model'} in their place, or "
            "choose another name."
        )
    return sorted(held - set(files))


def _plan(
    args: argparse.Namespace,
    user: str,
    files: dict[str, Path | bytes],
    stale: list[str],
    existing: ModelInfo | SpaceInfo | None,
    source: tuple[str, str] | None,
) -> str:
    """What would happen, for the user to read before agreeing."""
    private = not args.public if existing is None else existing.private
    seen = "private" if private else "PUBLIC: everyone can see and download it"
    sizes = {
        name: (len(each) if isinstance(each, bytes) else each.stat().st_size) / 1e6
        for name, each in files.items()
    }
    lines = [f"To {_address(args)} as {user}; {seen}:"]
    lines += [f"  {size:9.3f} MB  {name}" for name, size in sizes.items()]
    lines.append(f"  {sum(sizes.values()):9.3f} MB  in {len(files)} files; no audio")
    lines.append(
        f"The card links to {source[0]} and names commit {source[1][:10]}."
        if source
        else "The card names no commit: that takes one which is clean and pushed to a web host."
    )
    if stale:
        lines.append(f"Removed there, but kept in its history: {', '.join(stale)}")
    if private and args.public:
        lines.append(
            "The repository is private and stays so: change that in its settings on the Hub."
        )
    return "\n".join(lines)


def _address(args: argparse.Namespace) -> str:
    return f"{endpoint()}/{'spaces/' if args.space else ''}{args.repo}"


def _ask() -> None:
    if not sys.stdin.isatty():
        raise PipelineError("nothing was sent: nobody can be asked here; add --yes to agree.")
    try:
        answer = input("Send this? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise PipelineError("nothing was sent.")


if __name__ == "__main__":
    run(main)
