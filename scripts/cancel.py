"""Cancel the unfinished jobs of an experiment's last submission.

python scripts/cancel.py experiment=mini
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("cancel")
