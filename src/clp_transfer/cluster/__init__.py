"""An experiment's steps as SLURM jobs: scripts, frozen code and configs, the queue."""
