#!/bin/bash -l
# train ridge 1, of mini. `make submit` wrote this; it runs the code and the config that lie beside it.
#SBATCH --job-name=mini-train-ridge-1
#SBATCH --output=/data/out/mini/submissions/1/logs/train-ridge-1.log
#SBATCH --open-mode=append
#SBATCH --chdir=/home/me/clp
#SBATCH --time=1-00:00:00
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --mem-per-cpu=8G
#SBATCH --gpus-per-node=8
#SBATCH --partition=gpu
#SBATCH --account=p123
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --signal=USR1@300

submission=/data/out/mini/submissions/1
rm -f "$submission/ended/train-ridge-1"
echo "— train ridge 1: job $SLURM_JOB_ID, start $((1 + ${SLURM_RESTART_COUNT:-0})), on $SLURM_JOB_NODELIST, $(date '+%F %T')"
module load Apptainer/1.3
module load CUDA
export PYTHONPATH="$submission/code/src" PYTHONUNBUFFERED=1 CLP_TRANSFER_REVISION=abc
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# One process per node, which starts the ranks. (srun takes --cpus-per-task from sbatch no more.)
srun --cpus-per-task=64 --kill-on-bad-exit=0 --wait=120 \
    apptainer exec --nv --bind /home/me/clp,/data/out,/scratch 'clp transfer.sif' \
    python -m clp_transfer.cluster.ranks --nnodes 4 --nproc_per_node 8 \
    --rdzv_backend c10d --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$first:$((20000 + SLURM_JOB_ID % 20000))" \
    "$submission/code/train.py" --config-dir "$submission/config" --config-name job-train-ridge-1
status=$?

# 75: saved and stopped before the limit. The job keeps its number, so that those that wait for it go on waiting.
if [ "$status" -eq 75 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 5 ]; then
        echo "— not finished: back into the queue"
        scontrol requeue "$SLURM_JOB_ID" && exit 75
    else
        echo "— not finished after 5 restarts (cluster.most_restarts): make submit goes on from here"
    fi
fi
echo "$status" >"$submission/ended/train-ridge-1"
exit "$status"
