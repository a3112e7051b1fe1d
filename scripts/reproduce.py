"""Run every stage of an experiment in order; what `make reproduce` calls.

python scripts/reproduce.py experiment=mini
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("reproduce")
