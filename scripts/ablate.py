"""Answer one question by varying one thing of an experiment; what `make ablate` calls.

python scripts/ablate.py experiment=mini-ablations ablation=vocabulary
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("ablate")
