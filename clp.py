"""Initialise a target-language model from a source and a helper.

python clp.py experiment=mini method=clp-topk
python clp.py experiment=mini source=path/to/model helper=path/to/helper method=ridge
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("clp")
