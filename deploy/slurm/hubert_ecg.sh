#!/bin/bash
# One job on several nodes of a Slurm cluster: Ray starts on all of them, the command runs on the first, Ray ends.
#
#   .venv/bin/ray get-auth-token --generate               # once; the home directory is shared by all nodes
#   sbatch --nodes 4 deploy/slurm/hubert_ecg.sh python -m jobs.prepare --source files --input /data/archive --output W
#   sbatch --nodes 2 --gpus-per-node 4 deploy/slurm/hubert_ecg.sh \
#       python -m jobs.pretrain --waveforms W --labels L --workers.num 8 --workers.use_gpu true --output C
#
# Run from the repository with `make install` done on a file system that all nodes see. The exit code is the command's.
#SBATCH --job-name=hubert-ecg
#SBATCH --ntasks-per-node=1
# Whole nodes: Ray takes all cores that it finds, and ends what it started when it stops.
#SBATCH --exclusive
# All of their memory too, which --exclusive does not give.
#SBATCH --mem=0
#SBATCH --time=24:00:00
# Five minutes before the time is up this script is told, asks the command to save, and puts the job into the queue again.
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --output=hubert-ecg-%j.log
set -euo pipefail

if [ "$#" -eq 0 ]; then
    echo "wanted a command: sbatch --nodes N $0 python -m jobs.VERB ..., got none" >&2
    exit 2
fi
cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# Nodes of a large job come minutes apart; Ray's own 30 s would give up.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600

nodes="$SLURM_JOB_NUM_NODES"
first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
# The address that other nodes reach it by; a port of this job's own, should an earlier one still be closing down.
address="$(getent ahostsv4 "$first" | awk 'NR == 1 {print $1}'):$((20000 + SLURM_JOB_ID % 10000))"
# Beside the log: the command's process, to be asked to save, and whether it has ended well. Ray's own exit code is 0 also
# where it could not start at all.
run="$PWD/.hubert-ecg-$SLURM_JOB_ID"
rm -f "$run.pid" "$run.done"

asked=false
# shellcheck disable=SC2329  # called by the trap
ask_to_save() {
    asked=true
    # The command runs on the first node, as this script does. Ray itself must live on until it has saved.
    # Where there is no command yet, there is nothing to save either.
    [ ! -e "$run.pid" ] || kill -TERM "$(cat "$run.pid")" || true
}
trap ask_to_save TERM

# The shell on the first node, not this one, expands what stands in single quotes.
# shellcheck disable=SC2016
srun --nodes "$nodes" --ntasks "$nodes" ray symmetric-run --address "$address" --min-nodes "$nodes" -- \
    sh -c 'run="$1"; shift; "$@" & echo $! > "$run.pid"; wait $! && touch "$run.done"' run "$run" "$@" &
step=$!
code=0
wait "$step" || code=$?
# A signal ends `wait` before the step has ended.
while kill -0 "$step" 2> /dev/null; do
    code=0
    wait "$step" || code=$?
done

if [ -e "$run.done" ]; then
    rm -f "$run.pid" "$run.done"
    exit 0
fi
rm -f "$run.pid"
if $asked; then
    echo "out of time: saved, and queued again as job $SLURM_JOB_ID" >&2
    scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" -eq 0 ]; then
    echo "Ray did not start on all $nodes nodes; the lines above say where it failed" >&2
    code=1
fi
exit "$code"
