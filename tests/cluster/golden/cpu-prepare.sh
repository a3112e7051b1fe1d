#!/bin/bash
# data, of mini. `make submit` wrote this; it runs the code and the config that lie beside it.
#SBATCH --job-name=mini-data
#SBATCH --output=/data/out/mini/submissions/1/logs/data.log
#SBATCH --open-mode=append
#SBATCH --chdir=/home/me/clp
#SBATCH --time=04:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=4G
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes

submission=/data/out/mini/submissions/1
rm -f "$submission/ended/data"
echo "— data: job $SLURM_JOB_ID, start $((1 + ${SLURM_RESTART_COUNT:-0})), on $SLURM_JOB_NODELIST, $(date '+%F %T')"
export PATH=/env/bin:"$PATH"
export PYTHONPATH="$submission/code/src" PYTHONUNBUFFERED=1 CLP_TRANSFER_REVISION=abc

# One process per node. (srun takes --cpus-per-task from sbatch no more.)
srun --cpus-per-task=2 --kill-on-bad-exit=0 --wait=120 \
    python \
    "$submission/code/prepare.py" --config-dir "$submission/config" --config-name job-data
status=$?
echo "$status" >"$submission/ended/data"
exit "$status"
