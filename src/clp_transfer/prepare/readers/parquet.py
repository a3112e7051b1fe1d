"""Parquet: a column of texts, read a few rows at a time and no other columns with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers.fields import unwanted
from clp_transfer.prepare.readers.lines import ReadLimits
from clp_transfer.prepare.streams import BUFFER, Stream

# What a batch of rows takes, about.
BATCH_BYTES = 8 << 20
MOST_ROWS = 4096


def parquet(stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]) -> Iterator[Document]:
    """The rows' texts, named by their `id` or, where there is no such column, `<stem>:<row number>`.

    Counted: `empty` (null), `dropped_<value>` and `too_long`. Raises UserError for a file that is no whole Parquet file
    or lies inside another, for a column that is not there and a text column of another type.
    """
    if not stream.seekable():
        raise UserError(
            f"{stream.name}: a Parquet file cannot be read inside a compression or an archive",
            "unpack it first; Parquet compresses its columns itself",
        )
    number = 0
    try:
        with pq.ParquetFile(stream.path, buffer_size=BUFFER, pre_buffer=False) as file:
            rows = _Rows(file.schema_arrow, config, stream)
            for batch in rows.batches(file):
                yield from rows.documents(batch, number, limits, left_out)
                number += batch.num_rows
                stream.advance(stream.size * number // file.metadata.num_rows)
        stream.advance(stream.size)
    except (OSError, pa.ArrowException) as error:
        stream.fail(error, f"after {number:,} rows")


class _Rows:
    """The columns that are asked for, in the schema of one file."""

    def __init__(self, schema: pa.Schema, config: SourceConfig, stream: Stream) -> None:
        self.stem, self.schema, self.name = stream.stem, schema, stream.name
        self.text, kind = self._need(config.text, "text")
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise UserError(
                f"{stream.name}: the column {config.text!r} holds {kind}, strings were expected",
                "set the source's `text` to the column with the text",
            )
        self.drop = [(self._need(path, "drop")[0], frozenset(map(str, v))) for path, v in config.drop.items()]
        self.id = (self._find(config.id) or (None, None))[0]

    def _find(self, path: str) -> tuple[list[str], pa.DataType] | None:
        """The steps to a column and its type; a name that itself has dots comes first."""
        if path in self.schema.names:
            return [path], self.schema.field(path).type
        kind = pa.struct(self.schema)
        for part in path.split("."):
            if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
                return None
            kind = kind.field(part).type
        return path.split("."), kind

    def _need(self, path: str, setting: str) -> tuple[list[str], pa.DataType]:
        found = self._find(path)
        if found is None:
            columns = ", ".join(f"{field.name} ({field.type})" for field in self.schema)
            raise UserError(
                f"{self.name} has no column {path!r}; it has: {columns or 'none'}",
                f"set the source's `{setting}` to one of them, with dots into nested ones",
            )
        return found

    def batches(self, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        """The file's rows, so many at a time as take about BATCH_BYTES."""
        columns = [".".join(path) for path in [self.text, *([self.id] if self.id else []), *(p for p, _ in self.drop)]]
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            chunks = (group.column(index) for index in range(group.num_columns))
            size = sum(c.total_uncompressed_size for c in chunks if f"{c.path_in_schema}.".startswith(f"{columns[0]}."))
            rows = max(1, min(MOST_ROWS, BATCH_BYTES * group.num_rows // max(size, 1)))
            yield from file.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False)

    def documents(
        self, batch: pa.RecordBatch, before: int, limits: ReadLimits, left_out: Counter[str]
    ) -> Iterator[Document]:
        """A batch's documents; `before`: how many rows came before it."""
        texts, too_long = _texts(_column(batch, self.text), limits.longest)
        names = _values(_column(batch, self.id)) if self.id else [None] * len(texts)
        drops = [(_values(_column(batch, path)), values) for path, values in self.drop]
        for row, (name, text) in enumerate(zip(names, texts, strict=True)):
            reasons = (unwanted(column[row], values) for column, values in drops)
            dropped = next((reason for reason in reasons if reason is not None), None)
            if dropped is not None:
                left_out[f"dropped_{dropped}"] += 1
            elif text is None:
                left_out["too_long" if row in too_long else "empty"] += 1
            else:
                yield Document(f"{self.stem}:{before + row + 1}" if name is None else str(name), text)


def _column(batch: pa.RecordBatch, path: list[str]) -> pa.Array:
    column = batch.column(path[0])
    for part in path[1:]:
        column = pc.struct_field(column, part)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _texts(column: pa.Array, longest: int) -> tuple[list[Any], set[int]]:
    """The strings, None where there is none or it is longer; and the rows of the latter."""
    stored = column.cast(pa.large_binary())
    over = pc.fill_null(pc.greater(pc.binary_length(stored), longest), False)
    too_long = set(pc.indices_nonzero(over).to_pylist())
    if too_long:
        column = pc.if_else(over, pa.scalar(None, column.type), column)
    return _values(column), too_long


def _values(column: pa.Array) -> list[Any]:
    """What the rows hold, as Python has it; in strings, bytes that are no UTF-8 become lone surrogates."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # Parquet does not check what it is told is text
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if isinstance(scalar, pa.StructScalar):
            return {name: _value(inner) for name, inner in scalar.items()}
        if isinstance(scalar, pa.DictionaryScalar):
            return _value(scalar.value)
        if isinstance(scalar, pa.ListScalar):  # a map is a list of keys with values
            inner = [_value(one) for one in scalar.values]
            return [tuple(pair.values()) for pair in inner] if isinstance(scalar, pa.MapScalar) else inner
        return scalar.as_buffer().to_pybytes().decode(errors="surrogateescape")
