"""What of a data config its plan holds, written as it always was: data that were made once stay valid."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from clp_transfer.prepare.job import VALIDATION_BYTES, DataConfig, HubConfig


def planned(data: DataConfig) -> dict[str, Any]:
    """The settings that determine the result; what came later is left out where unset, and nulls are filled in."""
    settings = asdict(data)
    del settings["encoder"]  # all give the same ids
    for corpus in settings["corpora"].values():
        if not corpus["group"]:
            del corpus["group"]
        if corpus["validation_bytes"] is None:
            corpus["validation_bytes"] = VALIDATION_BYTES
        for source in (*corpus["sources"].values(), corpus["validation"]):
            if source is not None and source["hub"] is not None:
                source["hub"] = asdict(HubConfig(**source["hub"]).filled())
    return settings
