"""Made-up folders of finished stages, with curves whose crossings can be worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clp_transfer.report.job import ArmRun, ReportJob

BYTES_PER_TOKEN = 4.0


class Folders:
    """Writes stage folders below a root and gathers them into a job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.arms: list[ArmRun] = []
        self.ingredients: dict[str, Path] = {}
        self.step0: dict[str, Path] = {}
        self.write("data/statistics.json", statistics())
        self.write("data/tasks/domains.jsonl", {"text": "x", "label": 0})

    def write(self, name: str, value: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        return path

    def arm(self, name: str, points: list[tuple[int, float]], seed: int = 1, **parts: Any) -> ArmRun:
        """One arm; `points` are (tokens, bits per byte). Parts: tasks, samples, texts, warnings, flops_per_token."""
        base = f"{name}-{seed}"
        records = [record(tokens, bits) for tokens, bits in points]
        lines = [{"kind": "train", "step": 0, "tokens": 0, "loss": 9.0}, *records]
        metrics = self.root / base / "run/metrics.jsonl"
        metrics.parent.mkdir(parents=True, exist_ok=True)
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        per_token = parts.get("flops_per_token", 10.0)
        tokens = points[-1][0]
        summary = {
            "name": base, "parameters": 1000, "tokens": tokens, "flops": per_token * tokens,
            "flops_per_token": per_token, "seconds": 60.0, "lr": 0.002, "final": records[-1],
        }  # fmt: skip
        self.write(f"{base}/run/summary.json", summary)
        transfer = {"method": parts.get("method", name), "warnings": parts.get("warnings", []), "seconds": 1.0}
        self.write(f"{base}/init/transfer.json", transfer)
        evaluation = {"perplexity": {**records[-1], "bytes": 100}}
        evaluation |= {key: parts[key] for key in ("tasks", "samples", "texts") if key in parts}
        self.write(f"{base}/evaluation/results.json", evaluation)
        folder = self.root / base
        run = ArmRun(name, seed, folder / "run", folder / "init", folder / "evaluation")
        self.arms.append(run)
        return run

    def helper(self, flops: float) -> None:
        path = self.write("helper/summary.json", {"tokens": 500, "flops": flops, "seconds": 30.0})
        self.ingredients["helper"] = path.parent

    def source_at_step0(self, name: str, bits: dict[str, float], warnings: dict[str, list[str]]) -> None:
        details = {m: {"nats_per_token": b * 2, "tokens": 9, "warnings": warnings.get(m, [])} for m, b in bits.items()}
        results = {"bits_per_byte": bits, "details": details, "bytes": 30, "documents": 1, "window": 256}
        self.step0[name] = self.write(f"step0-{name}/results.json", results).parent

    def job(self, out: str = "report", **changes: Any) -> ReportJob:
        values: dict[str, Any] = {
            "name": "mini", "out": self.root / out, "data": self.root / "data", "arms": self.arms,
            "ingredients": self.ingredients, "step0": self.step0, "config": {"seed": 1, "note": "ein & zwei"},
        }  # fmt: skip
        return ReportJob(**{**values, **changes})


class Outputs:
    """An experiment's folder as the stages leave it, manifests included, with made-up numbers."""

    def __init__(self, root: Path, tokenizer: str = "t", text: str = "v") -> None:
        self.root = root
        self.tokenizer, self.text = tokenizer, text
        self.stage("data", {"statistics.json": statistics()})

    def stage(self, name: str, files: dict[str, Any], **manifest: Any) -> Path:
        """A finished folder; values that are no text are written as JSON."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        listed = {}
        for file, value in files.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            (folder / file).write_text(text, encoding="utf-8")
            listed[file] = {"bytes": len(text.encode()), "sha256": f"{hash(text):x}"}
        whole = {"stage": "x", "key": name, "settings": {}, "inputs": {}, "files": listed, "seconds": 1.0}
        (folder / "manifest.json").write_text(json.dumps({**whole, **manifest}), encoding="utf-8")
        return folder

    def arm(self, name: str, points: list[tuple[int, float]], **parts: Any) -> None:
        """A run called `<method>-seed<n>[,variant]`; parts: settings, summary, samples, texts, final, evaluated …"""
        plain = name.partition(",")[0]
        method = plain.rpartition("-seed")[0]
        records = [record(tokens, bits) for tokens, bits in points]
        per_token = parts.get("flops_per_token", 10.0)
        summary = {
            "name": name, "parameters": 1000, "tokens": points[-1][0], "flops": per_token * points[-1][0],
            "flops_per_token": per_token, "seconds": 60.0, "lr": 0.002, **parts.get("summary", {}),
        }  # fmt: skip
        inputs = {"train": f"train {self.tokenizer}", "validation": f"{self.text} {self.tokenizer}"}
        lines = "".join(json.dumps(line) + "\n" for line in records)
        settings = {"optim": {"lr": 0.002}, "seed": int(plain.rpartition("-seed")[2])} | parts.get("settings", {})
        self.stage(
            f"runs/{name}", {"metrics.jsonl": lines, "summary.json": summary},
            settings=settings, inputs={**inputs, "tokenizer": self.tokenizer},
        )  # fmt: skip
        self.stage(f"init/{plain}", {"transfer.json": {"method": method, "warnings": []}})
        size = 100 * len(self.text)
        final = {**records[-1], "bytes": size, "words": size // 5, "documents": 3, "window": 128}
        evaluation = {"perplexity": {**final, **parts.get("final", {})}}
        evaluation |= {key: parts[key] for key in ("tasks", "samples", "texts") if key in parts}
        if parts.get("evaluated", True):
            self.stage(f"evaluations/{name}", {"results.json": evaluation})

    def helper(self, flops: float, name: str = "helper") -> None:
        summary = {"tokens": 500, "flops": flops, "seconds": 30.0}
        self.stage(f"runs/{name}", {"metrics.jsonl": "", "summary.json": summary})


def record(tokens: int, bits: float) -> dict[str, Any]:
    nats = bits * math.log(2) * BYTES_PER_TOKEN
    return {
        "kind": "validation", "step": tokens // 100, "tokens": tokens, "nats_per_token": nats,
        "token_perplexity": math.exp(nats), "word_perplexity": math.exp(1.5 * nats), "bits_per_byte": bits,
    }  # fmt: skip


def statistics() -> dict[str, Any]:
    source = {"name": "some-texts 1.2.3: texts.gz", "fingerprint": "sha256:" + "ab" * 32, "licence": "CC BY-SA 4.0"}
    split = {"documents": 10, "bytes": 4000}
    pack = {**split, "tokens": 1000, "words": 700, "bytes_per_token": 4.0, "tokens_per_word": 1.43}
    overlap = {"shared": 3000, "of_first": 8192, "of_second": 8192, "share_of_second": 0.366}
    return {
        "corpora": {"de": {"train": split, "validation": split, "left_out": {}, "sources": [source]}},
        "packs": {"de": {"train": pack, "validation": pack}},
        "overlap": {"en-de": overlap},
    }


def domains(acc: float, distinguishable: bool) -> dict[str, Any]:
    return {
        "domains": {
            "acc": acc, "stderr": 0.02, "documents": 400, "random": 0.111, "majority": 0.163,
            "labels": ["Medizin", "Musik"], "distinguishable": distinguishable,
        }
    }  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def task_results() -> Callable[[float, bool], dict[str, Any]]:
    return domains


@pytest.fixture
def full(folders: Folders) -> Folders:
    """Three arms, a helper, step 0, tasks, samples and a warning. Scratch ends at 2.0 after 1000 tokens."""
    said = [{"prompt": "Die Sonne", "text": "Die Sonne scheint <script>alert(1)</script>"}]
    folders.arm("scratch", [(0, 3.0), (500, 2.4), (1000, 2.0)], samples=said, tasks=domains(0.12, False))
    # Ridge crosses 2.0 halfway between 100 (2.2) and 300 (1.8): at 200 tokens.
    folders.arm("ridge", [(0, 2.6), (100, 2.2), (300, 1.8), (1000, 1.6)], samples=said, tasks=domains(0.31, True))
    folders.arm("clp", [(0, 13.9), (1000, 2.1)], warnings=["the denominator is almost 0"], tasks=domains(0.13, False))
    folders.helper(1000.0)
    bits = {"own_tokenizer": 2.38, "ridge": 2.59, "clp": 13.9}
    folders.source_at_step0("smollm2", bits, {"clp": ["7 tokens are ill-conditioned"]})
    return folders


@pytest.fixture
def outputs(tmp_path: Path) -> Callable[..., Outputs]:
    """Makes experiments' folders below `outputs/`."""
    return lambda name, **kind: Outputs(tmp_path / "outputs" / name, **kind)


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Reports without their figures, which take most of the time, for tests of everything else."""
    names = ("perplexity", "word_perplexity", "byte_perplexity", "nats", "bits", "paper")
    monkeypatch.setattr("clp_transfer.report.run.draw", lambda results, folder: dict.fromkeys(names, "<svg></svg>"))
