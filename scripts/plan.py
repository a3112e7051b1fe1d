"""What an experiment's training needs and takes on common GPUs, as estimates; what `make plan` calls.

python scripts/plan.py experiment=mini
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("plan")
