#!/usr/bin/env bash
# Runs a command as a cluster job.
#
#   job.sh --log FILE --final 2,20 -- COMMAND [ARGUMENT...]
#
# Output goes to stdout and to FILE. The exit code is the command's. SIGTERM, which a cluster sends to the
# container's first process only, reaches the command. An exit code listed in --final is an end that a retry
# repeats: it is remembered for this job (JOB_UUID), and a retry ends with it at once.
set -uo pipefail

if [[ $# -lt 6 || $1 != --log || $3 != --final || $5 != -- ]]; then
    echo "usage: job.sh --log FILE --final CODE,CODE -- COMMAND [ARGUMENT...]" >&2
    exit 2
fi
log=$2 final=$4
shift 5
remembered=${log%.log}.final
mkdir -p -- "$(dirname -- "$log")" || exit 2

# a line that is not whole, or that names another code, is no end: the disk was full, or the machine went down
if [[ -n ${JOB_UUID:-} && -f $remembered ]] && IFS=' ' read -r uuid code <"$remembered"; then
    if [[ $uuid == "$JOB_UUID" && -n $code && ,$final, == *,"$code",* ]]; then
        echo "job.sh: this job already ended with exit code $code, which a retry repeats; not started again" \
            "(remove $remembered to start it)" | tee -a -- "$log"
        exit "$code"
    fi
fi

exec 3> >(exec tee -ai -- "$log")
tee_pid=$!
signalled='' command_pid=''
# before the command starts: a signal that comes first would end this process and leave the command alone
trap 'signalled=1; [[ -z $command_pid ]] || kill -TERM "$command_pid" 2>/dev/null' TERM INT
"$@" >&3 2>&1 3>&- &
command_pid=$!
[[ -z $signalled ]] || kill -TERM "$command_pid" 2>/dev/null
exec 3>&-

while :; do
    wait "$command_pid"
    code=$?
    kill -0 "$command_pid" 2>/dev/null || break # otherwise a signal ended the wait, not the command
done
if [[ -n $signalled ]]; then
    wait "$command_pid" # the command may have ended between the signal and the check
    late=$?
    if (( late != 127 )); then code=$late; fi
fi

# The last lines must reach the log before this process ends and the container with it. A daemon that the
# command left behind may hold the pipe open for ever, and the GPUs with it: no longer than 3 s.
for _ in {1..30}; do
    kill -0 "$tee_pid" 2>/dev/null || break
    sleep 0.1
done

if [[ ,$final, == *,$code,* && -n ${JOB_UUID:-} ]]; then
    echo "$JOB_UUID $code" >"$remembered.new" && mv -f -- "$remembered.new" "$remembered"
fi
exit "$code"
