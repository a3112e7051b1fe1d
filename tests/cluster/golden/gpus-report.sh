#!/bin/bash -l
# report, of mini. `make submit` wrote this; it runs the code and the config that lie beside it.
#SBATCH --job-name=mini-report
#SBATCH --output=/data/out/mini/submissions/1/logs/report.log
#SBATCH --open-mode=append
#SBATCH --chdir=/home/me/clp
#SBATCH --time=1-00:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=8G
#SBATCH --partition=cpu
#SBATCH --account=p123
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes

submission=/data/out/mini/submissions/1
rm -f "$submission/ended/report"
echo "— report: job $SLURM_JOB_ID, start $((1 + ${SLURM_RESTART_COUNT:-0})), on $SLURM_JOB_NODELIST, $(date '+%F %T')"
module load Apptainer/1.3
module load CUDA
export PYTHONPATH="$submission/code/src" PYTHONUNBUFFERED=1 CLP_TRANSFER_REVISION=abc

# One process per node. (srun takes --cpus-per-task from sbatch no more.)
srun --cpus-per-task=8 --kill-on-bad-exit=0 --wait=120 \
    apptainer exec --bind /home/me/clp,/data/out,/scratch 'clp transfer.sif' \
    python \
    "$submission/code/scripts/report.py" --config-dir "$submission/config" --config-name job-report
status=$?
echo "$status" >"$submission/ended/report"
exit "$status"
