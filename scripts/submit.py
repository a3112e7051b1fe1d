"""Submit all steps of an experiment that are not complete to SLURM, as jobs that wait for one another.

python scripts/submit.py experiment=mini cluster=slurm
"""

from clp_transfer.cli import main

if __name__ == "__main__":
    main("submit")
