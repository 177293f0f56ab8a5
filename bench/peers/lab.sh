# shellcheck shell=bash
# The place of one run: a network namespace with nothing but loopback under a known congestion control, a control group
# for the system under test, and the processes in both. Whatever ends the script, nothing of it stays.

congestion=reno
netns=adit-peers-$$
# Where the control group of a run is made; empty where none can be.
group_parent=''
group=''
accounting=''
# Set by a system that has a process for each connection.
is_forking=''
declare -A pids=()
declare -A helpers=()

die() {
  printf 'error: %s\n' "$1" >&2
  [ "$#" -lt 2 ] || printf 'hint: %s\n' "$2" >&2
  exit 2
}

say() {
  printf '%s\n' "$*" >&2
}

# Finds out how processor time can be accounted for.
lab_prepare() {
  local place
  # Version 1 first: where both are mounted, the second has no processor controller.
  for place in /sys/fs/cgroup/cpuacct /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup; do
    [ -e "$place/cgroup.procs" ] || continue
    [ -e "$place/cpuacct.stat" ] || grep -qs usage_usec "$place/cpu.stat" || continue
    if mkdir "$place/adit-peers-$$" 2>/dev/null; then
      group_parent=$place/adit-peers-$$
      accounting="control group (${place#/sys/fs/cgroup})"
      [ -e "$place/cpuacct.stat" ] || accounting='control group (version 2)'
      return
    fi
  done
  accounting='/proc/PID/stat of the processes that live when a run begins'
  say "no control group can be made: processor time is by $accounting; of processes that are forked for" \
    "a connection (socat) it is not known"
}

# A fresh namespace: no connection of the last run is left in it, not even waiting to be forgotten.
lab_open() {
  logs=$1
  is_forking=''
  ip netns add "$netns"
  ip -n "$netns" link set lo up
  inside sysctl -qw net.ipv4.tcp_congestion_control="$congestion" net.ipv4.ip_local_port_range='10000 65535'
  if [ -n "$group_parent" ]; then
    group=$group_parent/run
    mkdir "$group"
  fi
}

inside() {
  nsenter --net="/run/netns/$netns" -- "$@"
}

# start NAME COMMAND…: a process of the system under test.
start() {
  local name=$1
  shift
  (
    [ -z "$group" ] || echo "$BASHPID" >"$group/cgroup.procs"
    exec nsenter --net="/run/netns/$netns" -- "$@"
  ) >"$logs/$name.log" 2>&1 </dev/null &
  pids[$name]=$!
  # Its end is no news for the terminal.
  disown $!
}

# The same for what helps to measure.
start_outside() {
  local name=$1
  shift
  nsenter --net="/run/netns/$netns" -- "$@" >"$logs/$name.log" 2>&1 </dev/null &
  helpers[$name]=$!
  disown $!
}

# Which processes the generator is to account for, as its arguments.
subjects() {
  local name pid
  # Half of the truth would be a wrong figure.
  [ -n "$group" ] || [ -z "$is_forking" ] || return 0
  for name in "${!pids[@]}"; do
    printf -- '--pid %s=%s ' "${pids[$name]}" "$name"
  done
  if [ -n "$group" ]; then
    printf -- '--cgroup %s ' "$group"
    return
  fi
  # Their children, such as sshd's for its connection.
  for pid in $(ip netns pids "$netns"); do
    [[ " ${pids[*]} ${helpers[*]} " == *" $pid "* ]] || printf -- '--pid %s=child-%s ' "$pid" "$pid"
  done
}

lab_close() {
  local pid tries
  if [ -e "/run/netns/$netns" ]; then
    # All in the namespace was started here, whoever its parent is by now.
    for ((tries = 0; tries < 40; tries++)); do
      local left=()
      for pid in $(ip netns pids "$netns"); do
        left+=("$pid")
      done
      [ "${#left[@]}" -gt 0 ] || break
      if [ "$tries" -lt 20 ]; then
        kill -TERM "${left[@]}" 2>/dev/null || true
      else
        kill -KILL "${left[@]}" 2>/dev/null || true
      fi
      sleep 0.05
    done
    ip netns delete "$netns"
  fi
  pids=()
  helpers=()
  if [ -n "$group" ]; then
    # Those that have ended leave a group only when they are reaped.
    for ((tries = 0; tries < 40; tries++)); do
      rmdir "$group" 2>/dev/null && break
      sleep 0.05
    done
    group=''
  fi
}

# Whatever happened before.
lab_end() {
  lab_close || true
  [ -z "$group_parent" ] || rmdir "$group_parent" 2>/dev/null || say "left over: $group_parent"
}
