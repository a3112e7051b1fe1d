"""Find every arm's peak learning rate in short runs of equal length; what `make tune` calls.

python scripts/tune.py experiment=mini
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("tune")
