"""params.yaml: what is wrong is reported by key, with what is allowed, before any work."""

import copy

import pytest
import yaml

from genrepro.core.errors import PipelineError
from genrepro.core.params import Train, load
from tests.support.samples import ROOT


@pytest.fixture
def refusal(params_yaml, tmp_path):
    """Write params.yaml with one key changed and return the message of `load`."""

    def of(key: str, value: object) -> str:
        raw = copy.deepcopy(params_yaml)
        *sections, last = key.split(".")
        target = raw
        for section in sections:
            target = target[section]
        target[last] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(raw))
        with pytest.raises(PipelineError) as caught:
            load(path)
        return str(caught.value)

    return of


def test_the_values_of_the_repository_are_the_recipe_of_the_course():
    params = load(ROOT / "params.yaml")
    train = params.train
    assert (train.batch_size, train.effective_batch_size, train.epochs) == (8, 8, 10)
    assert (train.learning_rate, train.warmup, params.seed) == (5e-4, 0.1, 42)
    assert (params.encode.max_seconds, params.encode.normalize) == (30, True)
    assert params.split.folds == 10


def test_every_key_has_a_comment():
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if ":" in line and not line.startswith("#") and not line.rstrip().endswith(":"):
            assert " # " in line, line


def test_an_unknown_key_is_named_with_the_nearest_known_one(refusal):
    message = refusal("train.learning_rte", 1e-4)
    assert "train.learning_rte" in message
    assert "did you mean learning_rate" in message
    assert "warmup" in message


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("train.batch_size", 0, "greater than or equal to 1"),
        ("train.batch_size", "many", "valid integer"),
        ("train.precision", "fp8", "'auto', 'fp16', 'bf16', 'fp64' or 'none'"),
        ("split.protocol", "random", "'stratified'"),
        ("split.fold", 10, "0 to 9"),
        ("train.warmup", 1.5, "less than 1"),
        ("train.learning_rate", -1, "greater than 0"),
        ("encode.segment_seconds", None, "valid number"),
        ("encode.max_seconds", 0.05, "greater than or equal to 0.1"),
        ("train.dropout", 1.0, "less than 1"),
        ("train.spec_augment", "often", "valid boolean"),
        ("train.augment", "noise", "valid list"),
        ("train.augment", ["nois"], "'noise'"),
        ("data.corpus", "", "at least 1 character"),
        ("seed", -1, "greater than or equal to 0"),
    ],
)
def test_an_impossible_value_is_refused_with_the_key_and_what_is_allowed(
    refusal, key, value, allowed
):
    message = refusal(key, value)
    assert key.split(".")[0] in message and allowed in message, message


def test_a_batch_that_does_not_divide_the_effective_batch_is_refused(refusal):
    assert "multiple of batch_size (3)" in refusal("train.batch_size", 3)


def test_a_probe_of_a_backbone_that_is_not_frozen_is_refused(refusal):
    assert "it needs freeze=backbone" in refusal("train.probe", True)


@pytest.mark.parametrize(
    "changed", [{"augment": ["noise"]}, {"spec_augment": True}, {"dropout": 0.1}]
)
def test_a_probe_of_outputs_that_vary_is_refused(params_yaml, changed):
    probe = params_yaml["train"] | {"probe": True, "freeze": "backbone"}
    Train.model_validate(probe | {"spec_augment": False, "dropout": 0.0})
    with pytest.raises(ValueError, match="outputs that are computed once: it needs augment="):
        Train.model_validate(probe | changed)


def test_a_number_that_yaml_reads_as_text_is_a_number(params_yaml, tmp_path):
    raw = copy.deepcopy(params_yaml)
    raw["train"]["learning_rate"] = "1e-05"
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert load(path).train.learning_rate == 1e-5


@pytest.mark.parametrize("text", ["", "[]", "seed: 1", "train: [", "\x00"])
def test_a_file_without_parameters_is_one_error(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(PipelineError, match=r"params\.yaml"):
        load(path)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(PipelineError, match="repository's root"):
        load(tmp_path / "params.yaml")
