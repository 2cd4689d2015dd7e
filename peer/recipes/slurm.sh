#!/usr/bin/env bash
# A network of @@peers peers, one on each node, by Slurm.
#
# Submit it with sbatch, from the folder that its paths begin at; all nodes see this folder (and the
# model and the data) under the same name. Submitted again after a time limit or a failure, it goes
# on from the peers' logs. Keys are made once; a roster is made for each job, whose nodes may be
# others.
#
#SBATCH --job-name=@@name
#SBATCH --nodes=@@peers
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
##SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=@@name-%j.log

set -euo pipefail

experiment=@@experiment
keys=@@name/keys
roster=@@name/job-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}

if [ ! -e "$keys/public.toml" ]; then
    kseed keys @@peers --to "$keys"
fi
# Tasks are numbered in the order of their nodes, with one on each.
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | paste -s -d , -)
kseed roster "$experiment" --hosts "$hosts" --keys "$keys" --to "$roster"

# A peer that fails leaves the others at work: they wait for it as long as the experiment says.
srun --distribution=block --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    --label --kill-on-bad-exit=0 --wait=0 \
    kseed peer --experiment "$experiment" --index slurm \
    --roster "$roster/roster.toml" --keys "$keys"
