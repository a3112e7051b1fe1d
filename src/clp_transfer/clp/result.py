"""What a transfer gives: tables, report and provenance, and the whole model written to a folder."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from clp_transfer.card import read_licence, write_card
from clp_transfer.clp.checkpoint.configs import write_configs
from clp_transfer.clp.checkpoint.rewrite import write
from clp_transfer.clp.checkpoint.tokenizer import same_tokenizer
from clp_transfer.clp.checkpoint.untouched import Untouched
from clp_transfer.clp.checkpoint.verify import verify
from clp_transfer.clp.checkpoint.weights import listing
from clp_transfer.clp.job import AUTO, LINKS, MethodConfig
from clp_transfer.clp.models import Ingredients
from clp_transfer.clp.provenance import explain, token_table, write_provenance
from clp_transfer.clp.transfer import TransferRows, mean_row
from clp_transfer.errors import UserError
from clp_transfer.files import locked, publish, write_json
from clp_transfer.manifest import digest

REPORT = "transfer.json"


@dataclass(frozen=True)
class TransferResult:
    """A finished transfer, still in memory: `save` makes it a model folder."""

    ingredients: Ingredients
    method: MethodConfig
    rows: TransferRows
    seed: int
    language: str

    @property
    def input(self) -> Tensor:
        """The target's input table, [V_t, d_s], in the source's dtype."""
        return self.rows.input

    @property
    def head(self) -> Tensor | None:
        """The target's head, [V_t, d_s]; None where it is tied to the input."""
        return self.rows.head

    @property
    def tokenizer(self) -> Any:
        """The target's tokenizer."""
        return self.ingredients.target.tokenizer

    @cached_property
    def report(self) -> dict[str, Any]:
        """The method, its options, the overlap by class, diagnostics, norms, warnings and seconds, for JSON."""
        return {
            "method": self.method.name,
            "options": self.method.read_options(),
            "seed": self.seed,
            "language": self.language,
            **self.rows.report,
        }

    @cached_property
    def provenance(self) -> pa.Table:
        """One row per target token; see `provenance.token_table`."""
        name = self.method.name  # calibrate trains the rows that auto chose, so they are calibrate's
        chosen = self.rows.report["auto"]["chosen"] if name == AUTO else name
        return token_table(self.ingredients, self.rows, chosen)

    def explain(self, text: str) -> str:
        """How the rows of a text's tokens were made."""
        return explain(self.provenance, self.tokenizer, text)

    def save(
        self, out: str | Path, *, pad_to_multiple_of: int | None = None, overwrite: bool = False, links: str = "never"
    ) -> Path:
        """Write the model to a folder that `from_pretrained` loads: written aside, verified, synced, then renamed.

        What a killed process left beside `out` is removed. Raises UserError where `out` exists and `overwrite` is not
        set, where it is no model's folder or that of a model that was read, and where it cannot be written.
        """
        out = Path(out).expanduser()
        if out.name in ("", ".."):
            out = out.resolve()
        _check_values(pad_to_multiple_of, links)
        opened = self.ingredients
        check_out(out, overwrite, [opened.source.folder, opened.tokenizer_folder, *(m.folder for m in opened.helpers)])
        aside = out.with_name(f"{out.name}.partial")
        with readable_errors(out), locked(out.with_name(f".{out.name}.lock")):
            shutil.rmtree(aside, ignore_errors=True)
            try:
                aside.mkdir()
                self.write(aside, pad_to_multiple_of=pad_to_multiple_of, links=links)
                publish(aside, out)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return out

    def write(
        self,
        folder: Path,
        *,
        pad_to_multiple_of: int | None = None,
        links: str = "never",
        untouched: Untouched | None = None,
    ) -> dict[str, Any]:
        """Write and verify all files into an existing folder; returns the report. `untouched`: see `rewrite.write`."""
        source, overlap = self.ingredients.source, self.ingredients.overlap
        replaced = self._replaced(pad_to_multiple_of)
        pool = ThreadPoolExecutor(2)  # the one waits for the disk, the other for the processor
        try:
            told, hashed = pool.submit(lambda: self.provenance), pool.submit(self._hashes)
            moved = write(source.weights, source.layout, replaced, folder, links, untouched)
            rows = len(replaced.get(source.layout.input, self.input))
            kept = overlap.identical and not replaced and self._same_tokenizer()
            write_configs(
                source.folder, self.ingredients.tokenizer_folder, self.tokenizer, rows, folder, identical=kept
            )
            told.result()
        finally:  # what failed is told at once, not when all of the source has been hashed
            pool.shutdown(wait=False, cancel_futures=True)
        known = None if kept else self.tokenizer  # write_configs has compared it with what it wrote
        verify(folder, source.weights, source.layout, replaced, source.trust_remote_code, known)
        write_provenance(self.provenance, folder)
        report = self.report | {"rows": rows, "bytes": moved, "models": hashed.result()}
        write_json(folder / REPORT, report)
        self._write_card(folder)
        return report

    def _replaced(self, multiple: int | None) -> dict[str, Tensor]:
        """The tables to write, by stored name; none where the source's own vocabulary keeps them all as they are."""
        layout = self.ingredients.source.layout
        tables = {layout.input: self.input, layout.head: self.head, layout.head_bias: self.rows.head_bias}
        found = {name: table for name, table in tables.items() if name is not None and table is not None}
        extra = -len(self.input) % multiple if multiple else 0
        if self.ingredients.overlap.identical and not extra:
            return {}
        return {name: _padded(table, extra) for name, table in found.items()}

    def _same_tokenizer(self) -> bool:
        """Whether the target's tokenizer is the source's own; of one vocabulary, two may still differ in their ends."""
        one, other = self.ingredients.source.tokenizer, self.tokenizer
        templates = [getattr(tokenizer, "chat_template", None) for tokenizer in (one, other)]
        return one is other or (templates[0] == templates[1] and same_tokenizer(one, other))

    def _hashes(self) -> dict[str, Any]:
        models = {"source": self.ingredients.source}
        models |= {f"helper{i}": helper for i, helper in enumerate(self.ingredients.helpers)}
        return {role: {"name": m.folder.name, "sha256": digest(m.folder)} for role, m in models.items()}

    def _write_card(self, folder: Path) -> None:
        source, overlap = self.ingredients.source, self.ingredients.overlap
        total = len(overlap.shared) + len(overlap.missing)
        write_card(
            folder,
            title=f"{source.name} turned to {self.language} by {self.method.name}",
            language=self.language,
            base_model=source.name,
            licence=read_licence(source.folder),
            body=f"Initialised by `{self.method.name}`, not trained yet. {len(overlap.shared):,} of {total:,} tokens "
            f"({len(overlap.shared) / total:.1%}) are the source's too; `{REPORT}` and `provenance.parquet` say how "
            "the others were made.",
        )


def check_out(out: Path, overwrite: bool, read: Sequence[Path]) -> None:
    """Raise UserError where the result may not go there.

    Never where one of the folders lies that are read. Where something exists, only with `overwrite`, and then only in
    place of a model's folder or an empty one: `overwrite` deletes all that it replaces.
    """
    final = out.expanduser().resolve()
    for folder in read:
        other = folder.resolve()
        if final in (other, *other.parents) or other in final.parents:
            raise UserError(f"{out} is, holds or lies in {folder}, which is read", "choose another out=")
    if not out.exists():
        return
    if not overwrite:
        raise UserError(f"{out} exists", "choose another out=, or set overwrite=true to replace it")
    model = any((out / name).is_file() for name in ("config.json", "manifest.json"))
    if not out.is_dir() or (any(out.iterdir()) and not model):
        what = f"holds {listing(out)}" if out.is_dir() else "is a file"
        raise UserError(
            f"{out} {what}; overwrite=true replaces nothing but a model's folder",
            "choose another out=, or remove it yourself",
        )


@contextmanager
def readable_errors(out: Path) -> Iterator[None]:
    """Turn what the system refuses while `out` is made into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk of {out} is full", "make room, or choose an out= on another disk") from error
        where = Path(error.filename) if isinstance(error.filename, str) else out
        reason = error.strerror or str(error)
        if _written(where.absolute(), out.absolute()):
            raise UserError(f"{out} cannot be written: {reason} ({where})", "choose another out=") from error
        raise UserError(f"{where} cannot be read: {reason}", "make it readable, or give another") from error


def _written(where: Path, out: Path) -> bool:
    """Whether a file is one that is made on the way to `out`: above it, in it, or beside it under a name like its."""
    if out.is_relative_to(where):
        return True
    return where.is_relative_to(out.parent) and out.name in where.relative_to(out.parent).parts[0]


def _check_values(multiple: int | None, links: str) -> None:
    if multiple is not None and multiple < 1:
        raise UserError(f"pad_to_multiple_of={multiple} makes no sense", "give a number above 0, such as 64, or None")
    if links not in LINKS:
        raise UserError(f"links={links} makes no sense", f"choose {' or '.join(LINKS)}")


def _padded(table: Tensor, extra: int) -> Tensor:
    """The table with so many rows more, each its mean row."""
    if not extra:
        return table
    new = table.float().mean() if table.dim() == 1 else mean_row(table)
    return torch.cat([table, new.to(table.dtype).expand(extra, *table.shape[1:])])
