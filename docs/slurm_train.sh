#!/bin/bash
# One training a task of the array, with the task's number as its seed; queued again when its time is up.
#   sbatch --array=0-9 docs/slurm_train.sh experiment=mnist_deep_cnn
#SBATCH --job-name=cnnlab-train
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --output=outputs/slurm-%A_%a.log
# USR1 two minutes before the time limit: the run is KILLED with its last epoch kept, and the job is queued again.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${MLFLOW_TRACKING_URI:?export MLFLOW_TRACKING_URI=http://HOST:5000}"

exec .venv/bin/python train.py seed="$SLURM_ARRAY_TASK_ID" "$@"
