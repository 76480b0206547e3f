"""What the README and the docs tell a reader to type exists and is accepted."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from genrepro.core.params import load
from tests.support.samples import ROOT

README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "corpora").glob("*/README.md")),
    ROOT / "benchmarks/README.md",
]
LINKED = [*PAGES, ROOT / "CHANGELOG.md"]  # which also names commands of the past
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"([a-z]+)\.([a-z_]+)=(.*)", re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str = "") -> list[str]:
    """The code blocks of a page that are in a language; without one they are for a terminal."""
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def commands(page: Path) -> list[str]:
    """The lines of a page's terminal blocks, and the `code` in its prose."""
    lines = [line for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    prose = BLOCK.sub("", page.read_text())
    return [line for line in lines if line] + re.findall(r"`([^`\n]+)`", prose)


def words(command: str) -> list[str]:
    try:
        return shlex.split(command, comments=True)
    except ValueError:  # a line of output or of a tree, with an apostrophe
        return []


def settings(command: str) -> list[tuple[str, str, str]]:
    """Each section, key and value of params.yaml that a command sets."""
    found = [SETTING.fullmatch(word) for word in words(command)]
    return [match.groups() for match in found if match and match[1] in yaml_params()]


def yaml_params() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def choices(value: str) -> list[object]:
    """The values that -S sets: one, or each of a comma-separated list or a range to be queued."""
    if numbers := re.fullmatch(r"range\((\d+),(\d+)\)", value):
        return list(range(int(numbers[1]), int(numbers[2])))
    single = value.startswith(("'", '"', "["))
    return [yaml.safe_load(each) for each in ([value] if single else value.split(","))]


@every_page
def test_every_module_that_a_page_runs_exists_and_has_the_options(page):
    for command in commands(page):
        for module, argument in re.findall(r"(?<!\S)-m ([a-z_][\w.]*)(?: (\w+))?", command):
            if module.split(".")[0] in sys.stdlib_module_names:
                continue
            base = ROOT / module.replace(".", "/")
            files = [base.with_suffix(".py"), base / "__main__.py"]
            assert any(file.exists() for file in files), command
            if module == "stages":
                assert argument == "NAME" or (base / f"{argument}.py").exists(), command
            if module.startswith(("tools", "tests", "benchmarks")):
                room = ROOT / module.split(".")[0]
                source = "".join(file.read_text() for file in room.rglob("*.py"))
                for option in re.findall(r"(?<!\S)--[a-z-]+", command):
                    assert f'"{option}"' in source, command


@every_page
def test_every_recipe_that_a_page_names_exists(page):
    named = re.findall(r"\brecipe `([a-z-]+)`", page.read_text())
    for command in commands(page):
        named += re.findall(r"tools\.recipe ([a-z]\S*)", command)
    for name in named:
        assert (ROOT / f"recipes/{name}.yaml").exists(), name


def test_what_a_recipe_says_to_type_next_is_a_command_that_dvc_accepts():
    from dvc.cli.parser import get_main_parser

    for path in (ROOT / "recipes").glob("*.yaml"):
        line = path.read_text().splitlines()[1]
        for command in line.removeprefix("# Next: ").partition("    #")[0].split(" && "):
            get_main_parser().parse_args(words(command)[1:])


@every_page
def test_every_make_target_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for command in commands(page) for name in re.findall(r"\bmake ([a-z]+)", command)}
    assert named <= targets


def test_make_help_lists_every_target_and_every_tool():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    tools = [path for path in (ROOT / "tools").rglob("*.py") if "__main__" in path.read_text()]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in tools]
    for name in [*targets, *(name.removesuffix(".__main__") for name in names)]:
        assert re.search(rf"(^|-m ){re.escape(name)} ", listed, re.MULTILINE), name


@every_page
def test_every_dvc_command_of_a_page_is_one_that_dvc_accepts(page):
    from dvc.cli.parser import get_main_parser

    for command in commands(page):
        typed = words(command)
        in_prose = f"`{command}`" in page.read_text() and not settings(
            command
        )  # names a command only
        if typed[:1] == ["dvc"] and not in_prose:
            get_main_parser().parse_args(typed[1:])  # exits where it does not


@every_page
def test_every_setting_of_a_page_is_a_value_that_params_yaml_can_have(page, tmp_path):
    file = tmp_path / "params.yaml"
    for command in commands(page):
        together = settings(command)
        for section, key, value in together:
            for choice in choices(value):
                params = yaml_params()
                for other_section, other_key, other in together:
                    params[other_section][other_key] = choices(other)[0]
                params[section][key] = choice
                file.write_text(yaml.safe_dump(params))
                load(file)


@every_page
def test_every_parameter_that_a_page_names_exists(page):
    params = yaml_params()
    for command in commands(page):
        match = re.fullmatch(r"([a-z]+)\.([a-z_]+)", command)
        if match and isinstance(params.get(match[1]), dict):
            assert match[2] in params[match[1]], command


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_fits_on_230_lines_and_links_to_every_page_of_the_docs():
    text = README.read_text()
    assert len(text.splitlines()) <= 230
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_entry_of_the_project_tree_exists(page):
    tree = next(block for block in blocks(page) if re.search(r"^genrepro/", block, re.MULTILINE))
    parent = ROOT
    for line in tree.splitlines():
        names = line[: line.index("  ", 4)].split()
        if not line.startswith(" "):
            parent = ROOT / names[0]
        folder = parent if line.startswith(" ") else ROOT
        for name in names:
            written = name.rstrip("/") in ("data", "models", "metrics", "export")  # by the stages
            assert written or (folder / name).exists(), line
