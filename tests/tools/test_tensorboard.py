"""Learning curves as TensorBoard logs; TensorBoard itself is not among the requirements."""

import sys
from types import ModuleType
from typing import ClassVar

import pytest

from genrepro.core.errors import PipelineError
from tools import tensorboard


class Writer:
    """Keeps what SummaryWriter would write."""

    written: ClassVar[list] = []

    def __init__(self, folder):
        Writer.written = [folder]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def add_scalar(self, *scalar):
        self.written.append(scalar)


@pytest.fixture
def curves(in_tmp):
    for name, column in (("validation/accuracy", "accuracy"), ("train/loss", "loss")):
        path = tensorboard.CURVES / f"{name}.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"step\t{column}\n1\t0.5\n2\t0.75\n")


def test_each_curve_is_written_with_a_step_an_epoch(curves, monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    tensorboard.write(tensorboard.RUNS / "workspace")
    assert Writer.written == [
        "runs/workspace",
        ("train/loss", 0.5, 1),
        ("train/loss", 0.75, 2),
        ("validation/accuracy", 0.5, 1),
        ("validation/accuracy", 0.75, 2),
    ]


@pytest.mark.parametrize("name", ["", ".", "..", "../data", "/tmp", "a/b"])
def test_a_name_leads_nowhere_else(curves, monkeypatch, name):
    monkeypatch.setattr(sys, "argv", ["tensorboard", name])
    with pytest.raises(PipelineError, match="is no name for a folder in runs/"):
        tensorboard.main()


def test_what_is_missing_is_one_sentence_with_what_to_type(curves, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PipelineError, match="pip install tensorboard"):
        tensorboard.write(tensorboard.RUNS / "workspace")
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(PipelineError, match="dvc repro train"):
        tensorboard.write(tensorboard.RUNS / "workspace")
