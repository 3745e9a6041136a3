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

# Beside the log: the command's process, to be asked to save, and whether it has ended well. Ray's own exit code is 0 also
# where it could not start at all.
run="$PWD/.hubert-ecg-$SLURM_JOB_ID"
rm -f "$run.pid" "$run.done"

asked=false
step=
# shellcheck disable=SC2329  # called by the trap
ask_to_save() {
    asked=true
    if [ -s "$run.pid" ]; then
        # The command runs on the first node, as this script does. Ray itself must live on until it has saved.
        kill -TERM "$(cat "$run.pid")" || true
    elif [ -n "$step" ]; then
        # Nodes are still awaited: there is no command that could save, and none is to begin now.
        kill -TERM "$step" || true
    fi
}
trap ask_to_save TERM

nodes="$SLURM_JOB_NUM_NODES"
# All lines are read, also where one is wanted: whoever writes into a pipe that was closed fails, and this script with it.
first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)"

# An address of this name that other nodes reach: none of 127.*, by which each of them reaches itself.
reached_by() {
    getent ahostsv4 "$1" | awk '$1 !~ /^127\./ && !found {print $1; found = 1}' || true
}
head="${HUBERT_ECG_HEAD:-}"
if [ "$nodes" -eq 1 ]; then
    head="${head:-127.0.0.1}"
elif [ -z "$head" ]; then
    # Debian and others write a machine's own name into its /etc/hosts as 127.0.1.1; Slurm knows another address then.
    head="$(reached_by "$first")"
    [ -n "$head" ] || head="$(reached_by "$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')")"
    if [ -z "$head" ]; then
        echo "$first: wanted an address that other nodes reach it by, got '$(getent ahostsv4 "$first" | sed -n 1p)'; take" \
            "its name out of the 127.* lines of its /etc/hosts, or give the address: HUBERT_ECG_HEAD=10.0.0.1 sbatch ..." >&2
        exit 2
    fi
fi
# A port of this job's own, should an earlier one still be closing down.
address="$head:$((20000 + SLURM_JOB_ID % 10000))"
if $asked; then
    echo "out of time before anything began: queued again as job $SLURM_JOB_ID" >&2
    scontrol requeue "$SLURM_JOB_ID"
    exit 143
fi

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
