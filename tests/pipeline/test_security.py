"""No pickle is loaded, no foreign code is run, and no token is written or printed."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.samples import ROOT, tiny_backbone

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TOKEN = "hf_PlantedInTheEnvironmentAsASecret"
SOURCES = sorted(
    file for room in ("genrepro", "stages", "tools") for file in (ROOT / room).rglob("*.py")
)


class Mine:
    """Unpickled, it makes a file: the sign that a pickle was loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_the_code_loads_a_pickle_or_runs_text(path):
    for name, keywords in calls(path):
        assert name not in ("eval", "exec", "os.system", "yaml.load", "pickle.load", "pickle.loads")
        assert name != "torch.load" or keywords.get("weights_only") == "True"
        if re.match(r"(\w+\.)*Auto\w+\.from_|pipeline$", name):
            assert keywords.get("trust_remote_code") == "False", path
        assert keywords.get("allow_pickle", "False") in ("False", "model.allow_pickle")
        assert keywords.get("shell", "False") == "False"
        if name.endswith("Model.from_pretrained") or "AudioClassification.from_pre" in name:
            assert keywords.get("use_safetensors") == "True", path


def test_code_in_a_model_folder_is_not_run(in_tmp, monkeypatch):
    """auto_map names code beside the config; transformers asks at the terminal whether to run it.

    fetch_model refuses such a folder; here it is given to what loads models, as tools.predict does.
    """
    from genrepro.core.errors import PipelineError
    from genrepro.core.params import load
    from genrepro.encoding.extractor import adapt, load_extractor
    from genrepro.model import backbone

    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder, mark = tiny_backbone("ast", in_tmp / "model"), in_tmp / "mark"
    params = load(ROOT / "params.yaml")
    extractor = adapt(load_extractor(folder), params.encode, 1.0)
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    for name, changes in {
        "config.json": {"AutoConfig": "own.Config", "AutoModelForAudioClassification": "own.Model"},
        "preprocessor_config.json": {"AutoFeatureExtractor": "own.Extractor"},
    }.items():
        content = json.loads((folder / name).read_text()) | {"auto_map": changes}
        content |= {"model_type": "own"} if name == "config.json" else {}
        content.pop("feature_extractor_type", None)
        (folder / name).write_text(json.dumps(content))
    for load_it in (
        load_extractor,
        backbone.load,
        lambda folder: backbone.build(folder, ["a", "b"], extractor, params.train, 0),
    ):
        with pytest.raises(PipelineError):
            load_it(folder)
    assert not mark.exists()


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_a_pickle_of_more_than_tensors_is_not_loaded(in_tmp, allow_pickle):
    from genrepro import pretrained
    from genrepro.core.errors import PipelineError
    from genrepro.core.params import Model

    folder = shutil.copytree(ROOT / "tests/support/tiny-ast", in_tmp / "backbones/pickled")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Mine(in_tmp / "mark")))
    model = Model(id=str(folder), revision=None, allow_pickle=allow_pickle)
    with pytest.raises(PipelineError, match=r"pytorch_model\.bin"):
        pretrained.take(model, in_tmp / "taken")
    assert not (in_tmp / "mark").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_that_holds_a_pickle_of_more_than_tensors_is_not_loaded(in_tmp, name):
    """A checkpoint is this machine's own file; still, Trainer loads it with weights_only."""
    import torch

    mark = in_tmp / "mark"
    torch.save({"x": Mine(mark)}, in_tmp / name)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(in_tmp / name, weights_only=True)
    assert not mark.exists()
    trainer = (
        Path(sys.modules["torch"].__file__).parents[1] / "transformers/trainer.py"
    ).read_text()
    loads = [line for line in ast.walk(ast.parse(trainer)) if isinstance(line, ast.Call)]
    loads = [call for call in loads if ast.unparse(call.func) == "torch.load"]
    for call in loads:
        assert {k.arg: ast.unparse(k.value) for k in call.keywords}.get("weights_only") == "True"
    assert loads


def test_a_corpus_folder_s_code_is_not_run(in_tmp, tone_corpus):
    from genrepro.core.errors import PipelineError
    from genrepro.core.params import Data
    from genrepro.corpus import gather

    folder = shutil.copytree(tone_corpus, in_tmp / "mine")
    for name in ("mine.py", "conftest.py", "low/__init__.py"):
        (folder / name).write_text("import pathlib; pathlib.Path('mark').touch()")
    (folder / "low/clip.pkl").write_bytes(pickle.dumps(Mine(in_tmp / "mark")))
    gather.gather(
        Data(corpus=str(folder), facts=None, name_pattern=None, corrections=None), in_tmp / "raw"
    )
    (folder / "corpus.yaml").write_text("kind: !!python/object/apply:os.system ['touch mark']\n")
    with pytest.raises(PipelineError, match="not readable as YAML"):
        gather.gather(
            Data(corpus=str(folder), facts=None, name_pattern=None, corrections=None),
            in_tmp / "raw2",
        )
    assert not (in_tmp / "mark").exists()


@pytest.mark.slow
def test_a_token_in_the_environment_is_in_no_file_and_in_no_line(in_tmp, tone_corpus):
    """The stages that use the Hub; test_hub.py plants one where the Hub answers."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"]["corpus"] = str(tone_corpus)
    said = ""
    for model in (str(ROOT / "tests/support/tiny-ast"), "someone/private"):
        params["model"]["id"] = model
        (in_tmp / "params.yaml").write_text(yaml.safe_dump(params))
        for stage in ("fetch_data", "fetch_model"):
            given = {"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
            given |= {"HF_ENDPOINT": f"http://user:{TOKEN}@127.0.0.1:9", "HF_HOME": "hf"}
            done = subprocess.run(
                [sys.executable, "-m", "stages", stage],
                env=os.environ | given,
                capture_output=True,
                text=True,
            )
            said += done.stdout + done.stderr
    assert "cannot be reached" in said and TOKEN not in said
    for path in in_tmp.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_job_of_a_workflow_runs_code_of_a_pull_request_with_a_token_that_can_write(path):
    """That code can read the token that checkout stores, and what later steps are given."""
    workflow = yaml.safe_load(path.read_text())
    for job in workflow["jobs"].values():
        steps, can = job["steps"], job.get("permissions", workflow["permissions"])
        checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
        assert not checkouts or "write" not in can.values()
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)
        for step in steps:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step.get("uses", f"x@{'0' * 40}")), step


def test_every_locked_package_has_hashes():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [number for number, line in enumerate(lines) if "==" in line and line[0].isalnum()]
    assert len(pins) > 100
    for number in pins:
        assert "--hash=sha256:" in lines[number + 1], lines[number]
