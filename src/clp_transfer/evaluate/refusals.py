"""What no likelihood can be made of: ids without an embedding row, losses that are no number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from clp_transfer.errors import UserError


def check_ids(model: Any, documents: Iterable[NDArray[Any]]) -> None:
    """Raise UserError for an id that has no embedding row: on a GPU it would end in an unreadable assertion."""
    get_embeddings = getattr(model, "get_input_embeddings", None)
    if get_embeddings is None:
        return
    rows = get_embeddings().weight.shape[0]
    largest = max((int(ids.max()) for ids in documents if len(ids)), default=0)
    if rows and largest >= rows:  # DeepSpeed ZeRO 3 shows 0 rows: the matrix is elsewhere
        raise UserError(
            f"the text has token id {largest}, but the model's embedding has {rows} rows",
            "use the tokenizer that the model was trained with, or the pack that it made",
        )


class NotFinite(UserError):
    """A loss is NaN or infinite; `document` is the number, from 0, of the one that it is in, `place` where in it."""

    def __init__(self, document: int, text: str = "the text", place: str = "") -> None:
        self.document = document
        super().__init__(
            f"the loss is not finite in document {document} of {text} ({place}counted from 0)",
            "the weights hold NaN or infinite values, or overflow in this precision: check the run that made them, or"
            " compute in fp32",
        )
