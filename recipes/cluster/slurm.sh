#!/bin/bash
# Trains one run on two nodes of eight GPUs:  sbatch recipes/cluster/slurm.sh recipe.yaml runs/big
# Folders must be seen by all nodes. See docs/cluster.md.
#SBATCH --job-name=demask
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
# Five minutes before the end, or before the job makes room: workers save, and the job is queued again.
#SBATCH --signal=TERM@300

recipe=${1:?a recipe}
out=${2:?a folder for the run}

# A node that fails ends the others. Port by job, so that two jobs may share a node.
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
srun --kill-on-bad-exit=1 demask inject "$recipe" --out "$out" \
    --set launch.nodes="$SLURM_NNODES" --set launch.processes="${SLURM_GPUS_ON_NODE:-8}"
code=$?

# 143: stopped by SIGTERM with a whole checkpoint; the same command goes on.
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
