"""tools.serve: the classifier's predictions over HTTP, and a sentence for everything else."""

import json
import os
import re
import signal
import socket
import sys
import tempfile
from pathlib import Path

import onnx
import pytest
import soundfile
from onnx import TensorProto, helper
from starlette.testclient import TestClient

from genrepro.core.errors import PipelineError
from genrepro.encoding.extractor import load_extractor
from genrepro.export import program
from tests.support import load
from tests.support.samples import RATE, ROOT, tone
from tests.tools.test_predict import LABELS, write_export
from tools import endpoint, serve
from tools.classifier import Classifier
from tools.pool import Pool

CASES = ROOT / "tests/cases"
LIMIT = 300_000  # bytes of an upload


# Processes without the packages that the endpoint's container does without, which start at once.
CONTAINER = """
import sys
sys.modules |= dict.fromkeys(("torch", "transformers", "datasets", "scipy", "pandas", "dvc"))
"""


def write_graph(path: Path) -> None:
    """A model in little: logits from the mean square of a waveform. A real export takes 15 s."""
    nodes = [
        helper.make_node("ReduceSumSquare", ["input_values"], ["energy"], axes=[1]),
        helper.make_node("Gemm", ["energy", "weights", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "energy",
        [helper.make_tensor_value_info("input_values", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, [1, 3], [1e-4, -1e-4, 2e-4]),
            helper.make_tensor("bias", TensorProto.FLOAT, [3], [0.0, 1.0, 0.5]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def container(tmp_path_factory):
    """A folder as in the endpoint's container, which becomes the working directory."""
    folder = tmp_path_factory.mktemp("serve")
    export = write_export(folder / "export")
    (export / "onnx").mkdir()
    write_graph(export / "onnx/model.onnx")
    program.write(load_extractor(export), export)
    (folder / "metrics").mkdir()
    agreement = {"onnx": {"same_predictions": 1.0, "largest_logit_difference": 1e-6}}
    (folder / "metrics/export.json").write_text(json.dumps(agreement))
    (folder / "sitecustomize.py").write_text(CONTAINER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT), *sys.path]))
        yield folder


@pytest.fixture(scope="module")
def expected(container, sounds):
    classifier = Classifier()
    return [classifier.file(path).described(classifier.labels) for path in sounds]


@pytest.fixture(scope="module")
def client(container):
    with Pool(Path("export"), 1) as pool:
        yield TestClient(endpoint.create(pool, LIMIT), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for number, seconds in enumerate((0.3, 1.0, 2.4, 5.5)):
        soundfile.write(folder / f"{number}.flac", tone(300.0 * (number + 1), seconds), RATE)
    return sorted(folder.iterdir())


def error(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    sentence = answer.json()["error"]
    assert re.fullmatch(r"[A-Z/].*\.", sentence), sentence
    return sentence


def post(client, content: bytes, name: str = "a.wav", **options):
    return client.post("/classify", files={"file": (name, content)}, **options)


def test_an_answer_is_the_classifiers_prediction(client, sounds, expected):
    for path, right in zip(sounds, expected):
        answer = post(client, path.read_bytes(), "my song.x").json()
        assert load.difference(answer, right["probabilities"]) < 1e-3
        assert answer["file"] == "my song.x"
        for key in ("label", "seconds", "cut_short", "remark"):
            assert answer[key] == right[key]
        spans = [
            [(each["start"], each["end"]) for each in of["segments"]] for of in (answer, right)
        ]
        assert spans[0] == spans[1]
    assert post(client, (CASES / "one-second.m4a").read_bytes()).json()["seconds"] > 0.9
    assert "cancel out" in post(client, (CASES / "antiphase.wav").read_bytes()).json()["remark"]
    assert client.get("/health").json() == {"status": "ok", "labels": LABELS}


def test_what_is_no_sound_is_415_and_a_sound_that_cannot_be_classified_422(
    client, sounds, monkeypatch
):
    assert "empty file" in error(post(client, b""), 415)
    assert "web page" in error(post(client, (CASES / "web-page.mp3").read_bytes()), 415)
    assert "curl -F file=@" in error(client.post("/classify", content=b"RIFF"), 415)
    assert "curl -F file=@" in error(client.post("/classify", files={"sound": b"x"}), 422)
    assert "curl -F file=@" in error(
        client.post("/classify", data={"file": "x"}, files={"other": b"x"}), 422
    )
    short = sounds[0].with_name("short.wav")
    soundfile.write(short, tone(440, 0.05), RATE)
    assert "0.1 s of sound are needed" in error(post(client, short.read_bytes()), 422)
    monkeypatch.setattr(endpoint, "MAX_SECONDS", 3.0)
    assert "lasts more than 0.05 minutes" in error(post(client, sounds[3].read_bytes()), 422)


def test_requests_that_are_not_for_it_are_refused_in_json(client):
    broken = {"Content-Type": "multipart/form-data"}
    assert "boundary" in error(client.post("/classify", content=b"x", headers=broken), 400)
    assert "/docs" in error(client.get("/classify"), 405)
    assert "POST a file to /classify" in error(client.get("/classification"), 404)


def test_an_upload_is_bounded_whatever_it_announces(client):
    assert "at most 0.3 MB" in error(post(client, bytes(LIMIT)), 413)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}

    def chunks():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while True:
            yield bytes(LIMIT // 3)

    answer = client.post("/classify", content=take(chunks(), 6), headers=kind)
    assert "at most 0.3 MB" in error(answer, 413)


def take(chunks, count: int):
    for _ in range(count):
        yield next(chunks)


def test_a_token_is_asked_for_before_anything_is_read(client, sounds, monkeypatch):
    monkeypatch.setenv(endpoint.TOKEN, "geheimnis é")
    content = sounds[0].read_bytes()
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}):
        refused = post(client, content, headers=headers)
        assert "Authorization: Bearer TOKEN" in error(refused, 401)
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert "Bearer" in error(post(client, bytes(2 * LIMIT)), 401)
    monkeypatch.setenv(endpoint.TOKEN, "secret")
    assert post(client, content, headers={"Authorization": "Bearer secret"}).status_code == 200
    assert client.get("/health").status_code == 200


def test_a_worker_with_too_much_to_do_says_when_to_come_back(client, sounds, monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_WAITING", 0)
    answer = post(client, sounds[0].read_bytes())
    assert "try again in 5 s" in error(answer, 503)
    assert answer.headers["Retry-After"] == "5"
    monkeypatch.undo()
    assert post(client, sounds[0].read_bytes()).status_code == 200


def test_a_defect_is_a_500_and_no_upload_is_left_on_the_disk(client, sounds, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert post(client, sounds[0].read_bytes()).status_code == 200
    monkeypatch.setattr(Pool, "classify", lambda *_: 1 / 0)
    assert "its log says how" in error(post(client, sounds[0].read_bytes()), 500)
    assert not list(tmp_path.iterdir())


def test_its_page_needs_no_network(client):
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources and all(each.startswith("/") for each in sources)
    assert all(client.get(each).status_code == 200 for each in sources)
    described = client.get("/openapi.json").json()["paths"]["/classify"]["post"]
    assert {"200", "401", "413", "415", "422", "503"} <= set(described["responses"])
    assert "multipart/form-data" in described["requestBody"]["content"]


def test_all_at_once_are_answered_also_by_processes_that_die(container, sounds, expected):
    contents = [path.read_bytes() for path in sounds]

    def right(answers: list[dict]) -> None:
        for number, answer in enumerate(answers):
            assert answer["file"] == str(number)
            load.difference(answer, expected[number % len(sounds)]["probabilities"])

    with load.started(GENREPRO_WORKERS="2") as (url, pid):
        right(load.at_once(url, contents, 50))
        before = load.workers(pid)
        cases = [(CASES / name).read_bytes() for name in ("chained.ogg", "vbr-no-header.mp3")]
        statuses = load.bad_uploads(url, contents + cases, 100, seed=1)
        assert {415, 400, 422} <= set(statuses)
        assert len(before) == 2 and load.workers(pid) == before
        os.kill(before[0], signal.SIGKILL)
        right(load.at_once(url, contents, 8))
        after = load.workers(pid)
        assert len(after) == 2 and before[0] not in after
    assert not any(Path(f"/proc/{each}").exists() for each in after)


def test_a_file_that_crashes_its_process_is_refused_and_the_next_one_answered(
    client, sounds, monkeypatch
):
    monkeypatch.setattr("tools.pool._described", crash)
    assert "crashed" in error(post(client, sounds[0].read_bytes()), 422)
    monkeypatch.undo()
    assert post(client, sounds[0].read_bytes()).status_code == 200


def crash(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_what_cannot_start_is_reported(container, in_tmp, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve", "--port", "0"])
    with pytest.raises(PipelineError, match="contains no model: type `dvc repro`"):
        serve.main()
    (in_tmp / "config.json").write_text(json.dumps({"id2label": {"0": "a"}}))
    with pytest.raises(PipelineError, match=r"has no classify.py"), Pool(in_tmp, 1):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PipelineError, match=rf"cannot listen on 127.0.0.1:{port} \(Address"):
            serve.serve("127.0.0.1", port, in_tmp, LIMIT)
    for host, port in (("203.0.113.1", 80), ("127.0.0.1", 99_999)):
        with pytest.raises(PipelineError, match="choose another --port or --host"):
            serve.serve(host, port, in_tmp, LIMIT)
