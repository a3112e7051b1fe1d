"""Merge an experiment's results into one page, figures and results.json.

python scripts/report.py experiment=mini
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("report")
