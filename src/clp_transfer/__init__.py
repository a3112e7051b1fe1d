"""Teach a large language model a new language for a fraction of the tokens (CLP-Transfer).

One subpackage per stage: `prepare`, `clp`, `train`, `evaluate`, `report`; `pipeline` runs them in order.
"""

__version__ = "0.1.0"
