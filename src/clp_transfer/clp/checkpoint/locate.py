"""From a name to a model folder on this machine: a folder, a GGUF file, or a model of the Hugging Face hub."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from clp_transfer.clp.checkpoint.configs import CONFIG, GENERATION, LICENCES
from clp_transfer.clp.checkpoint.tokenizer import FILES
from clp_transfer.clp.checkpoint.weights import FORMATS, listing
from clp_transfer.errors import UserError
from clp_transfer.files import locked, publish, sha256_json
from clp_transfer.hub import model_errors

log = logging.getLogger(__name__)

SMALL = (CONFIG, GENERATION, *FILES, "README.md", *LICENCES)
SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def locate(
    name: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    cache: Path | None = None,
) -> Path:
    """The folder of a model: `name` itself if it is one, else converted (GGUF) or fetched (a hub id, once).

    `revision`: the branch, tag or commit of a hub model. `trust_remote_code` fetches the model's own Python files
    too. `cache`: where converted GGUF files are kept; None: beside the file. Raises UserError for what is no model,
    cannot be found, reached or read.
    """
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"{path} is no model folder and no .gguf file", "give the folder that it lies in")
        return _converted(path, cache)
    if path.is_dir():
        return _local(path, cache)
    # Not str(path): pathlib would tidy up what the user wrote.
    return _fetched(str(name), revision, trust_remote_code)


def locate_tokenizer(name: str) -> Path:
    """The folder of a tokenizer: `name` itself, else what the hub has under that id; raises UserError as `locate`."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not HUB_ID.fullmatch(name):
        raise UserError(f"there is no folder {name}", "give a tokenizer's folder or a hub id")
    return _snapshot(name, None, FILES)


def _local(folder: Path, cache: Path | None) -> Path:
    """A folder that holds a model, or the one GGUF file in it, converted."""
    ggufs = sorted(folder.glob("*.gguf"))
    if not any((folder / name).is_file() for name in FORMATS) and ggufs:
        if len(ggufs) > 1:
            raise UserError(
                f"{folder} holds {len(ggufs)} GGUF files: {', '.join(p.name for p in ggufs[:5])}",
                "give the path of the one to take",
            )
        return _converted(ggufs[0], cache)
    if (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder} is an adapter, not a whole model", "merge it into its base model and save that")
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} is not a model folder: it has no config.json; it holds {listing(folder)}",
            "give a folder that save_pretrained wrote (config.json, weights, tokenizer), or a hub id",
        )
    return folder


def _converted(gguf: Path, cache: Path | None) -> Path:
    """The model folder made of a GGUF file, made now if it is not there yet; a changed file is converted anew."""
    state = gguf.stat()
    key = sha256_json([str(gguf.resolve()), state.st_size, state.st_mtime_ns])[:12]
    out = (cache or gguf.parent) / f"{gguf.stem}-{key}"
    if (out / "config.json").is_file():
        return out
    from clp_transfer.prepare.gguf_model import convert

    log.info("converting %s to %s", gguf, out)
    aside = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.with_name(f".{out.name}.lock")):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            convert(gguf, aside)
            publish(aside, out)
    except UserError as error:
        if not error.problem.startswith(gguf.name):
            raise
        remedy = "give a GGUF file of an architecture that transformers knows, or the model it was made from"
        raise UserError(error.problem, remedy) from error
    except OSError as error:
        raise UserError(f"cannot convert {gguf} to {out}: {error.strerror}", "give a cache folder with room") from error
    return out


def _fetched(name: str, revision: str | None, trust_remote_code: bool) -> Path:
    """The snapshot of a hub model: config, tokenizer and weights, pickled ones only where it has no others."""
    if not HUB_ID.fullmatch(name):
        raise UserError(f"there is no folder or file {name}", "give a model's folder, a .gguf file, or a hub id")
    small = SMALL + (("*.py",) if trust_remote_code else ())
    folder = _snapshot(name, revision, small + SAFETENSORS)
    if not any((folder / file).is_file() for file in FORMATS[:2]):
        folder = _snapshot(name, revision, small + PICKLED)
    if not (folder / "config.json").is_file() or not any((folder / file).is_file() for file in FORMATS):
        raise UserError(
            f"the hub's {name} is no model that can be read: of config and weights it has {listing(folder)}",
            "take a model with config.json and safetensors; of a GGUF model fetch the file and give its path",
        )
    return folder


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """Fetch a hub model's files of these names, those at its top level only; raises UserError where that fails."""
    import huggingface_hub

    with model_errors(name, revision):
        # Without `/`: other formats of the same weights lie in subfolders (onnx/, original/).
        found = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), ignore_patterns=["*/*"]
        )
    return Path(found)
