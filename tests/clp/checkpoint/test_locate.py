"""Folders, GGUF files and hub ids; the hub is a server of this test."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from tiny import gguf_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from clp_transfer.clp.checkpoint.locate import locate
from clp_transfer.errors import UserError

COMMIT = "0123456789012345678901234567890123456789"


def test_a_folder_is_itself(world):
    assert locate(world.source) == world.source
    assert locate(str(world.source)) == world.source


def test_folders_that_are_no_models(tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere" / "here")  # "../x" must not be there
    tmp_path = tmp_path / "models"
    tmp_path.mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"has no config.json; it holds notes.txt"):
        locate(tmp_path)
    with pytest.raises(UserError, match=r"notes.txt is no model folder and no .gguf file"):
        locate(tmp_path / "notes.txt")
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(UserError, match="is an adapter"):
        locate(tmp_path)
    for name in ("./nowhere", "/no/where/at/all", "a/b/c", "../x", ""):
        if name:
            with pytest.raises(UserError, match="there is no folder or file"):
                locate(name)


@pytest.fixture(scope="module")
def gguf(world, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(world.source_tokenizer).backend_tokenizer
    gguf_file.write_gguf(path, gguf_file.make_llama(tokenizer.get_vocab_size()), tokenizer)
    return path


def test_gguf_is_converted_once(gguf, tmp_path):
    folder = locate(gguf, cache=tmp_path)
    assert folder.parent == tmp_path
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(model.model.embed_tokens.weight, gguf_file.make_llama(330).model.embed_tokens.weight)
    assert len(AutoTokenizer.from_pretrained(folder)) == 330
    before = (folder / "model.safetensors").stat().st_ino
    assert locate(gguf.parent, cache=tmp_path) == folder  # the only model of its folder
    assert (folder / "model.safetensors").stat().st_ino == before
    os.utime(gguf, ns=(1, 1))
    assert locate(gguf, cache=tmp_path) != folder  # another file now


def test_gguf_beside_itself_and_broken(gguf, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"broken.gguf cannot be read as a GGUF model") as error:
        locate(broken)
    assert "wheel" not in str(error.value) and "member" not in str(error.value)
    assert not list(tmp_path.glob("broken-*"))
    (tmp_path / "second.gguf").touch()
    with pytest.raises(UserError, match=r"holds 2 GGUF files: broken.gguf, second.gguf"):
        locate(tmp_path)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as snapshot_download asks for: a model's list of files, and its files."""

    files: dict[str, dict[str, bytes]]

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        if "/tree/" in path:
            files = self.files[path.removeprefix("api/models/").partition("/tree/")[0]]
            listed = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in files.items()]
            return self.send(200, json.dumps(listed).encode(), body)
        if path.startswith("api/models/"):
            name, _, rest = path.removeprefix("api/models/").partition("/revision/")
            if name == "me/gated":
                return self.send(403, b"", body, {"X-Error-Code": "GatedRepo"})
            if name not in self.files:
                return self.send(404, b"", body, {"X-Error-Code": "RepoNotFound"})
            if rest == "nope":
                return self.send(404, b"", body, {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": file} for file in self.files[name]]
            return self.send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode(), body)
        name, found, file = path.partition(f"/resolve/{COMMIT}/")
        if not found:
            return self.send(404, b"", body)
        return self.send(200, self.files[name][file], body, {"ETag": f'"{abs(hash((name, file)))}"'})

    def send(self, status: int, content: bytes, body: bool, headers: dict | None = None) -> None:
        self.send_response(status)
        for key, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_args):
        pass


@pytest.fixture(scope="module")
def hub():
    small = {"config.json": b"{}", "tokenizer.json": b"{}", "README.md": b"---\n", "modeling_x.py": b""}
    other = {"onnx/model.safetensors": b"", "consolidated.safetensors": b"", "tf_model.h5": b"", "logo.png": b""}
    safe = {"model.safetensors": b"", "pytorch_model.bin": b""}
    Hub.files = {
        "me/safe": small | other | safe,
        "me/bins": small | {"pytorch_model-00001-of-00001.bin": b"", "pytorch_model.bin.index.json": b"{}"},
        "me/gguf": {"README.md": b"", "x.gguf": b"GGUF"},
        "me/nothing": {"data.csv": b""},
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


CALL = """
import json, sys
from clp_transfer.clp.checkpoint.locate import locate
from clp_transfer.errors import UserError
made = []
for name, options in json.loads(sys.argv[1]):
    try:
        made.append(sorted(p.name for p in locate(name, **options).rglob("*")))
    except UserError as error:
        made.append([error.problem, error.remedy])
print(json.dumps(made))
"""


def call(tmp_path: Path, requests: list, **environment: str) -> list:
    """What locate says in a fresh process: the hub's address and cache are read when its client is imported."""
    settings = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | environment
    done = subprocess.run(
        [sys.executable, "-c", CALL, json.dumps(requests)], env=settings, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_hub_models(hub, tmp_path):
    safe, trusted, bins, *errors = call(
        tmp_path,
        [
            ("me/safe", {}),
            ("me/safe", {"trust_remote_code": True}),
            ("me/bins", {}),
            ("me/gguf", {}),
            ("me/nothing", {}),
            ("me/absent", {}),
            ("me/gated", {}),
            ("me/safe", {"revision": "nope"}),
        ],
        HF_ENDPOINT=hub,
    )
    assert safe == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert trusted == sorted([*safe, "modeling_x.py"])
    assert bins == [
        "README.md",
        "config.json",
        "pytorch_model-00001-of-00001.bin",
        "pytorch_model.bin.index.json",
        "tokenizer.json",
    ]
    expected = [
        ("me/gguf is no model that can be read", "of a GGUF model fetch the file"),
        ("me/nothing is no model that can be read", "safetensors"),
        ("no folder me/absent here and no model", "check the spelling"),
        ("the hub model me/gated is gated", "accept its terms"),
        ("the hub model me/safe, revision nope does not exist", "branches and tags"),
    ]
    for (problem, remedy), (found, advice) in zip(expected, errors, strict=True):
        assert problem in found and remedy in advice
    # What was fetched is found again without the hub; what was not is asked for in plain words.
    again, offline = call(tmp_path, [("me/safe", {}), ("me/unseen", {})], HF_HUB_OFFLINE="1", HF_ENDPOINT=hub)
    assert again == trusted
    assert "me/unseen is not on this machine, and the hub cannot be reached" in offline[0]
    assert "hf download me/unseen" in offline[1]
    (dead,) = call(tmp_path, [("me/unseen", {})], HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in dead[0]
