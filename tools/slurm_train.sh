#!/usr/bin/env bash
# Usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of
#        tools/train.py]
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS may be set, and
# MASTER_PORT where several jobs share a machine.
set -euo pipefail
USAGE='usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]'
PARTITION=${1:?$USAGE}
JOB_NAME=${2:?$USAGE}
CONFIG=${3:?$USAGE}
WORK_DIR=${4:?$USAGE}
GPUS=${GPUS:-8}
PER_NODE=${GPUS_PER_NODE:-8}
PER_NODE=$((GPUS < PER_NODE ? GPUS : PER_NODE))

# shellcheck disable=SC2086  # SRUN_ARGS are several words
srun --partition="$PARTITION" \
    --job-name="$JOB_NAME" \
    --gres="gpu:$PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$CONFIG" \
    --work-dir "$WORK_DIR" --launcher slurm "${@:5}"
