#!/bin/bash
# One sweep on many SLURM nodes: every task of the array joins the same study and stops when it is complete.
#   sbatch --array=1-8 docs/slurm_sweep.sh model=deep_cnn dataset=mnist search=deep_cnn sweep.n_trials=200
#SBATCH --job-name=cnnlab-sweep
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --time=08:00:00
#SBATCH --output=outputs/slurm-%A_%a.log
# SIGTERM two minutes before the time limit, to the script's child: trials end as KILLED and are queued again.
#SBATCH --signal=TERM@120
set -euo pipefail

: "${CNNLAB_STORAGE:?export CNNLAB_STORAGE=postgresql://USER:PASSWORD@HOST/DATABASE}"
: "${MLFLOW_TRACKING_URI:?export MLFLOW_TRACKING_URI=http://HOST:5000}"

srun .venv/bin/python sweep.py sweep.n_workers=1 "$@"
