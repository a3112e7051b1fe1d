"""Where the jobs of an experiment's last submission are.

python scripts/status.py experiment=mini
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("status")
