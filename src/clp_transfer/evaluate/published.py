"""The paper's published models and those it compares with, on the zero-shot tasks, in one table."""

from __future__ import annotations

import gc
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json, write_text

log = logging.getLogger(__name__)
SYSTEMS = Path(__file__).parent / "published.yaml"
# What a forward pass needs beside the weights, as a share of them.
HEADROOM = 1.2


@dataclass
class PublishedConfig:
    """Which systems on which tasks.

    `models`: names on the hub, all of `published.yaml` by default. `models_dir`: a folder where `<owner>/<name>` is
    looked up first. `data_dir`, `limit`, `fewshot`, `batch_size`, `seed`: see `zero_shot`. `out`: the folder of
    `published.json`, `published.md` and the kept rows; systems that an earlier call with the same settings measured
    stay in the table.
    """

    models: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=lambda: ["clp_german"])
    models_dir: Path | None = None
    data_dir: Path | None = None
    limit: int | None = None
    fewshot: int = 0
    batch_size: int = 8
    seed: int = 0
    out: Path = Path("outputs/published")


def systems() -> list[dict[str, str]]:
    """`name`, `group` (paper, comparison) and `what` of every published system."""
    groups = yaml.safe_load(SYSTEMS.read_text(encoding="utf-8"))
    return [{"group": group, **system} for group, members in groups.items() for system in members]


def published(config: PublishedConfig) -> dict[str, Any]:
    """Measure every system that can be loaded, and write the table after each; returns what the JSON holds.

    A system that cannot be loaded (no network, gated, too large for the memory, a part of its weights missing) has the
    reason as `error`. Finished tasks are kept in `out`, so the same call goes on after an interruption and retries
    what failed. Under a launcher the documents are shared among the ranks. Raises UserError, before any model is
    loaded, for a misspelt model or task, a number or a folder that makes no sense, and broken local data.
    """
    from clp_transfer.evaluate.harness import check_evaluate_package
    from clp_transfer.train.together import rank

    check_evaluate_package()
    known = {system["name"]: system for system in systems()}
    tasks = _check(config, known)
    _start_ranks()
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    del settings["models"], settings["out"]
    result: dict[str, Any] = {"settings": settings, "tasks": tasks, "systems": []}
    rows = _earlier(config.out / "published.json", result)
    for system in [known[name] for name in config.models or known]:
        log.info("%s (%s)", system["name"], system["what"])
        row = system | _measure(system["name"], config)
        if row["error"] is not None and system["name"] in rows and rows[system["name"]]["error"] is None:
            log.warning("  its numbers from an earlier call are kept")
        else:
            rows[system["name"]] = row
        result["systems"] = [rows[name] for name in known if name in rows]
        if rank() == 0:
            _write(config.out, result)
    return result


def _check(config: PublishedConfig, known: dict[str, Any]) -> list[str]:
    """The tasks' names; raises UserError for whatever could not be meant."""
    from clp_transfer.evaluate.task_names import expand, is_ours
    from clp_transfer.evaluate.zero_shot import _check_data, _check_numbers

    if unknown := [name for name in config.models if name not in known]:
        raise UserError(f"no published system {', '.join(unknown)}", f"choose from {', '.join(known)}")
    if config.models_dir is not None and not config.models_dir.is_dir():
        raise UserError(
            f"models_dir={config.models_dir} is not a folder",
            "name the folder that holds <owner>/<name>, or leave it out",
        )
    _check_numbers(config.limit, config.fewshot, config.batch_size)
    tasks = expand(config.tasks)
    _check_data([name for name in tasks if is_ours(name)], config.data_dir, config.fewshot)
    return tasks


def _earlier(path: Path, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier call with the same settings, by system."""
    found = read_json(path) if path.is_file() else {"systems": []}
    if any(found.get(name) != result[name] for name in ("settings", "tasks")):
        if found["systems"]:
            log.warning("%s is of other settings and is replaced; its rows stay in %s", path, path.parent / "rows")
        return {}
    return {row["name"]: row for row in found["systems"]}


def _write(out: Path, result: dict[str, Any]) -> None:
    from clp_transfer.evaluate.published_table import markdown

    write_json(out / "published.json", result)
    write_text(out / "published.md", markdown(result))


def _measure(name: str, config: PublishedConfig) -> dict[str, Any]:
    """One system's `loaded_from`, `parameters`, `dtype`, `tasks` and `error`."""
    import torch

    from clp_transfer.evaluate.zero_shot import zero_shot
    from clp_transfer.train.together import gather

    found: dict[str, Any] = {"tasks": {}, "error": None}
    opened, error = None, None
    try:
        opened = _open(name, config.models_dir)
    except UserError as caught:
        error = caught.problem.partition("\n")[0][:300]
    except (Exception, MemoryError) as caught:  # whatever a model of others, or the way to it, can raise
        error = f"{type(caught).__name__}: {(str(caught).strip().splitlines() or [''])[0][:300]}"
    if failures := [told for told in gather(error) if told is not None]:
        log.warning("  cannot be loaded: %s", failures[0])
        return found | {"error": failures[0]}
    assert opened is not None
    model, tokenizer, about = opened
    key = about.pop("key")
    found["tasks"] = zero_shot(
        model,
        tokenizer,
        config.tasks,
        data_dir=config.data_dir,
        limit=config.limit,
        fewshot=config.fewshot,
        batch_size=config.batch_size,
        cache=config.out / "rows",
        model_key=key,
        seed=config.seed,
    )
    del model, opened
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found | about


def _open(name: str, models_dir: Path | None) -> tuple[Any, Any, dict[str, Any]]:
    """The model on this rank's device, its tokenizer, and `key`, `loaded_from`, `parameters`, `dtype`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from clp_transfer.clp.checkpoint.locate import locate
    from clp_transfer.evaluate.load import load_model, load_tokenizer
    from clp_transfer.manifest import digest

    local = None if models_dir is None or not (models_dir / name).is_dir() else models_dir / name
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    config = AutoConfig.from_pretrained(local or name)
    with torch.device("meta"):  # its size, before tens of gigabytes are fetched
        parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    _check_memory(parameters * dtype.itemsize, device)
    commit = getattr(config, "_commit_hash", None)
    folder = local or locate(name, revision=commit)
    model = load_model(folder, device=device, dtype=dtype)
    tokenizer = load_tokenizer(folder, model)
    key = f"{name}@{commit}" if local is None else digest(local)
    about = {"key": key, "loaded_from": "hub" if local is None else "models_dir", "parameters": parameters}
    return model, tokenizer, about | {"dtype": str(dtype).removeprefix("torch.")}


def _check_memory(needed: int, device: str) -> None:
    """Raise MemoryError where the weights do not fit; the system would kill this process, and not say why."""
    import psutil
    import torch

    free = psutil.virtual_memory().available if device == "cpu" else torch.cuda.mem_get_info(device)[0]
    if needed * HEADROOM > free:
        raise MemoryError(f"needs {needed * HEADROOM / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")


def _start_ranks() -> None:
    """Join the other ranks where a launcher started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())
        assert state.num_processes > 1
