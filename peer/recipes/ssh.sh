#!/usr/bin/env bash
# A network of @@peers peers, by ssh. Once, with the hosts' names in the order of the peers:
#
#   kseed roster @@experiment --hosts HOST,HOST,... --to @@folder
#
# Then, with this script:
#
#   start    copies the experiment, the roster and to each host its own key, and starts all peers that
#            do not run; one that has run before goes on from its log
#   status   tells which peers run, and the last line of each log
#   stop     ends the peers that `start` has started, and nothing else
#
# ssh comes in by key (BatchMode), under the names of the roster. On every host kseed is installed; if
# it is not on the path that ssh finds there, KSEED says where it is. Models and data are hub ids, or
# paths that all hosts have.
set -euo pipefail

experiment=@@experiment
roster=@@roster
folder="@@name" # on each host, in the home folder: log, key and run folder of its peers
kseed=${KSEED:-kseed}

# What runs on a host. The number in a pid file may have become that of another process since, so its
# command line is looked at.
on_host() {
    cat << 'EOF'
set -eu
verb=$1 folder=$2 index=$3 kseed=$4
cd "$folder" 2> /dev/null || { echo "peer $index has not been started"; exit 0; }
log=peer-$index.log
pid=$(cat "peer-$index.pid" 2> /dev/null || true)
runs() {
    [ -n "$pid" ] && ps -ww -o args= -p "$pid" |
        grep -q -F -e "peer --experiment $PWD/experiment.toml --index $index "
}
case $verb in
    start)
        nohup "$kseed" peer --experiment "$PWD/experiment.toml" --index "$index" \
            --out "peer-$index" >> "$log" 2>&1 < /dev/null &
        echo $! > "peer-$index.pid"
        echo "peer $index is started"
        ;;
    status)
        if runs; then state=runs; else state="does not run"; fi
        echo "peer $index $state: $(tail -n 1 "$log" 2> /dev/null)"
        ;;
    stop)
        if runs; then
            kill "$pid"
            for _ in 1 2 3 4 5 6 7 8 9 10; do
                runs || break
                sleep 1
            done
            if runs; then kill -KILL "$pid"; fi
            echo "peer $index is stopped"
        else
            echo "peer $index does not run"
        fi
        rm -f "peer-$index.pid"
        ;;
    is-running) if runs; then echo yes; else echo no; fi ;;
esac
EOF
}

# ask HOST VERB INDEX
ask() {
    on_host | ssh -o BatchMode=yes "$1" "sh -s -- $(printf '%q ' "$2" "$folder" "$3" "$kseed")"
}

# start HOST INDEX
start() {
    local secret
    secret=$(dirname "$roster")/peer-$2.secret.toml
    case $(ask "$1" is-running "$2") in
        yes) echo "peer $2 runs already" ;;
        "") return 1 ;;
        *)
            ssh -o BatchMode=yes "$1" "mkdir -p -m 700 $folder" &&
                copy "$experiment" "$1:$folder/experiment.toml" &&
                copy "$roster" "$1:$folder/roster.toml" &&
                { [ ! -e "$secret" ] || copy "$secret" "$1:$folder/"; } &&
                ask "$1" start "$2"
            ;;
    esac
}

copy() {
    scp -q -p -o BatchMode=yes "$1" "$2"
}

verb=${1:-}
case $verb in
    start | status | stop) ;;
    *)
        echo "usage: $0 start|status|stop" >&2
        exit 2
        ;;
esac
mapfile -t hosts < <(sed -n 's|^address = "tcp://\(.*\):[0-9]*"$|\1|p' "$roster")
if [ "${#hosts[@]}" -ne @@peers ]; then
    echo "$roster is not the roster of @@peers peers" >&2
    exit 2
fi
failed=0
for index in "${!hosts[@]}"; do
    host=${hosts[index]}
    echo -n "$host: "
    if [ "$verb" = start ]; then
        start "$host" "$index" || failed=1
    else
        ask "$host" "$verb" "$index" || failed=1
    fi
done
exit "$failed"
