#!/bin/bash -l
# evaluate ridge 1, of mini. `make submit` wrote this; it runs the code and the config that lie beside it.
#SBATCH --job-name=mini-evaluate-ridge-1
#SBATCH --output=/data/out/mini/submissions/1/logs/evaluate-ridge-1.log
#SBATCH --open-mode=append
#SBATCH --chdir=/home/me/clp
#SBATCH --time=1-00:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=8G
#SBATCH --gpus-per-node=1
#SBATCH --partition=gpu
#SBATCH --account=p123
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes

submission=/data/out/mini/submissions/1
rm -f "$submission/ended/evaluate-ridge-1"
echo "— evaluate ridge 1: job $SLURM_JOB_ID, start $((1 + ${SLURM_RESTART_COUNT:-0})), on $SLURM_JOB_NODELIST, $(date '+%F %T')"
module load Apptainer/1.3
module load CUDA
export PYTHONPATH="$submission/code/src" PYTHONUNBUFFERED=1 CLP_TRANSFER_REVISION=abc

# One process per node. (srun takes --cpus-per-task from sbatch no more.)
srun --cpus-per-task=8 --kill-on-bad-exit=0 --wait=120 \
    apptainer exec --nv --bind /home/me/clp,/data/out,/scratch 'clp transfer.sif' \
    python \
    "$submission/code/evaluate.py" --config-dir "$submission/config" --config-name job-evaluate-ridge-1
status=$?
echo "$status" >"$submission/ended/evaluate-ridge-1"
exit "$status"
