#!/usr/bin/env bash
# A real one-node SLURM on this machine, for tests: tests/slurm/cluster.sh up | down
#
# `up` installs Debian's packages if they are missing, starts munged, slurmctld and slurmd, and returns when the node
# accepts jobs; called again, it starts whatever is not running. `down` cancels all jobs and stops the three. The node
# claims 4 CPUs, 64 GB and 2 GPUs, whatever the machine has: the tests check how jobs are distributed, not how fast they
# run. Exit status 77: this machine cannot run it; standard error says why.
set -euo pipefail

STATE=/var/lib/ccr-slurm
CONF=/etc/slurm/slurm.conf
GRES=/etc/slurm/gres.conf
OURS="# ccr's SLURM for tests"
HOST=$(hostname -s)

die() {
    echo "SLURM for tests: $1" >&2
    exit "${2:-1}"
}

try_for() { # SECONDS COMMAND...: retry until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

pid_of() { # NAME: pid of the daemon, from its pid file; fails if it is not running
    local pid
    pid=$(cat "$STATE/$1.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && echo "$pid"
}

check() {
    [ "$(id -u)" = 0 ] || die "only root can set it up (to install packages and to start munged, slurmctld and slurmd)." 77
    if [ -e $CONF ] && ! grep -qF "$OURS" $CONF; then
        die "$CONF is another cluster's. Leaving it as it is." 77
    fi
}

install_packages() {
    command -v munged >/dev/null && command -v slurmctld >/dev/null && command -v slurmd >/dev/null && return
    command -v apt-get >/dev/null || die "munge and slurm-wlm are not installed, and there is no apt-get to install them." 77
    apt-get update -qq || die "apt-get update failed."
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends munge slurm-wlm >/dev/null ||
        die "apt-get could not install munge and slurm-wlm."
}

configure() {
    mkdir -p /etc/slurm $STATE/{controller,node}
    # stand-in GPUs: a node has one per device file, and CUDA_VISIBLE_DEVICES is set only for real devices, so these
    # are aliases of /dev/null
    for gpu in 0 1; do
        [ -e $STATE/gpu$gpu ] || mknod $STATE/gpu$gpu c 1 3 2>/dev/null || touch $STATE/gpu$gpu
    done
    echo "NodeName=$HOST Name=gpu File=$STATE/gpu[0-1]" >$GRES
    cat >$CONF <<END
$OURS, written by tests/slurm/cluster.sh
ClusterName=ccr
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$STATE/controller
SlurmdSpoolDir=$STATE/node
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
AccountingStorageType=accounting_storage/none
MpiDefault=none
# without cgroups and systemd, so in a container too; memory is looked at every second
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000,bf_interval=1
ReturnToService=2
MinJobAge=7200
KillWait=10
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE
PartitionName=gpu Nodes=$HOST MaxTime=INFINITE
END
}

start() {
    mkdir -p /run/munge
    chown munge: /run/munge
    [ -s /etc/munge/munge.key ] || runuser -u munge -- mungekey --create
    if ! munge --no-input 2>/dev/null | unmunge >/dev/null 2>&1; then
        runuser -u munge -- munged --force --pid-file=/run/munge/munged.pid 2>/dev/null
        cp /run/munge/munged.pid $STATE/munged.pid # ours to stop; one that ran before is not
    fi
    try_for 10 sh -c 'munge --no-input | unmunge' || die "munged does not answer."
    pid_of slurmctld >/dev/null && scontrol reconfigure || slurmctld
    try_for 20 scontrol ping || die "slurmctld does not answer: see $STATE/slurmctld.log."
    pid_of slurmd >/dev/null || slurmd
    try_for 30 node_is_up || die "the node does not come up: see $STATE/slurmd.log."
}

node_is_up() {
    sinfo --noheader --format %T | grep -qx 'idle\|mixed\|allocated' && return
    scontrol update nodename="$HOST" state=resume
    return 1
}

end() { # NAME
    local pid
    if pid=$(pid_of "$1"); then
        kill "$pid"
        try_for 20 sh -c "! kill -0 $pid" || kill -9 "$pid"
    fi
    rm -f "$STATE/$1.pid"
}

up() {
    check
    install_packages
    configure
    start
    sinfo --noheader --format 'SLURM for tests: partition %P, node %N %T'
}

down() {
    check
    [ -e $CONF ] || return 0
    timeout 10 scancel --user=root 2>/dev/null || true
    try_for 20 sh -c '[ -z "$(squeue --noheader --states=running,completing)" ]' || true
    for daemon in slurmd slurmctld munged; do end $daemon; done
    rm -rf $STATE $CONF $GRES
}

case ${1:-} in
up | down) "$1" ;;
*) die "say up or down." ;;
esac
