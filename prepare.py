"""Build the data: splits, tokenizers, packed tokens.

python prepare.py experiment=mini
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("prepare")
