"""Teach a large language model a new language for a fraction of the tokens (CLP-Transfer).

One subpackage per stage: `prepare`, `clp`, `train`, `evaluate`, `report`; `pipeline` runs them in order. In a notebook:

    import clp_transfer
    result = clp_transfer.transfer("path/or/id/of/source", "path/or/id/of/helper", method="ridge")
    result.save("target")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clp_transfer.clp.api import transfer
    from clp_transfer.clp.arrays import transfer_rows
    from clp_transfer.clp.result import TransferResult

__version__ = "0.1.0"
__all__ = ["TransferResult", "__version__", "transfer", "transfer_rows"]

# Imported when first asked for: the command line must be able to refuse a wrong key before torch is loaded.
LAZY = {
    "transfer": "clp_transfer.clp.api",
    "transfer_rows": "clp_transfer.clp.arrays",
    "TransferResult": "clp_transfer.clp.result",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(LAZY[name]), name)


def __dir__() -> list[str]:
    """For a notebook's completion."""
    return sorted({*globals(), *LAZY})
