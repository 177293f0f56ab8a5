#!/usr/bin/env bash
# What grows and what must not: many connections in one tunnel, many tunnels on one relay, handshakes, what the
# processes take by themselves. Writes bench/SCALE.md. See bench/README.md.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
# shellcheck source-path=SCRIPTDIR source=peers/lab.sh
source "$here/peers/lab.sh"
# shellcheck source-path=SCRIPTDIR source=peers/systems.sh
source "$here/peers/systems.sh"

parts_all=(connections base tunnels handshakes)

usage() {
  cat <<TEXT
Usage: bench/scale.sh [OPTIONS]

  --parts A,B,…     only these: ${parts_all[*]}
  --no-build        take the binaries in target/release as they are
  --no-render       keep the runs, write no report
  --results FILE    where the report goes [bench/SCALE.md]
  --help

connections  10,000 connections at once in one tunnel, from two processes of the generator
base         user memory of relay, source and destination with one connection
tunnels      1,000 tunnels on one relay, 10 of them active
handshakes   all links of 500, 2,000 and 5,000 tunnels are reset at once and come back

Takes root (a network namespace), and 20,000 descriptors for each process. Runs are kept in target/scale/DATE/.
Environment: ADIT and ADIT_LOADGEN name other binaries than those in target/release.
TEXT
}

main() {
  local parts=("${parts_all[@]}") build=1 render=1 results=$here/SCALE.md part
  local command_line=(${ADIT:+ADIT=other} ${ADIT_LOADGEN:+ADIT_LOADGEN=other} "bench/scale.sh" "$@")
  while [ "$#" -gt 0 ]; do
    case $1 in
      --parts) IFS=, read -ra parts <<<"${2:?--parts needs names}"; shift ;;
      --no-build) build=0 ;;
      --no-render) render=0 ;;
      --results) results=${2:?--results needs a file}; shift ;;
      --help | -h) usage; return ;;
      *) die "$1 is no option" "bench/scale.sh --help lists them" ;;
    esac
    shift
  done
  for part in "${parts[@]}"; do
    [[ " ${parts_all[*]} " == *" $part "* ]] || die "$part is no part" "there are: ${parts_all[*]}"
  done
  [ "$(id -u)" = 0 ] || die "a network namespace needs root" "run it with sudo"
  adit=${ADIT:-$root/target/release/adit}
  loadgen=${ADIT_LOADGEN:-$root/target/release/adit-loadgen}
  [ "$build" = 0 ] || (cd "$root" && cargo build --release -p adit -p adit-loadgen)
  [ -x "$adit" ] && [ -x "$loadgen" ] || die "there are no binaries" "leave --no-build away"
  ulimit -n 20000 || die "a process needs 20,000 descriptors" "raise the hard limit (ulimit -Hn)"

  work=$root/target/scale/$(date -u +%Y-%m-%dT%H-%M-%SZ)
  mkdir -p "$work/runs"
  lab_prepare
  trap lab_end EXIT
  trap 'exit 130' INT TERM
  prepare_secrets
  python3 "$here/peers/record.py" machine "$root" "$congestion" "$accounting" "${command_line[*]}" \
    "$(versions adit)" >"$work/machine.json"
  for part in "${parts[@]}"; do
    lab_open "$work/runs"
    "run_$part"
    lab_close
  done
  say "runs: $work"
  [ "$render" = 0 ] || python3 "$here/peers/scale.py" "$work" "$results"
}

# generate NAME ARGUMENTS…: one process of the generator; its exit code is kept, for the report.
generate() {
  local name=$1 code=0
  shift
  say "$name: $*"
  inside "$loadgen" "$@" --quiet --out "$work/runs/$name" >"$work/runs/$name.log" 2>&1 || code=$?
  echo "$code" >"$work/runs/$name.code"
}

open_tunnel() {
  start_outside server "$loadgen" serve --listen "127.0.0.1:$server_port"
  start_adit
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    ! inside "$loadgen" latency --rate 100 --connections 1 --duration 300ms --quiet \
      --target "127.0.0.1:$entry_port" >"$logs/warm-up.log" 2>&1 || return 0
    sleep 0.2
  done
  die "the tunnel did not come up" "see $logs"
}

# Each process keeps half of the connections open for all of its time, and all of them are in use.
run_connections() {
  open_tunnel
  local seed pids_of_generators=()
  for seed in 1 2; do
    # shellcheck disable=SC2046
    generate "connections-$seed" latency --closed --connections 5000 --duration 20s --seed "$seed" \
      --target "127.0.0.1:$entry_port" $(subjects) &
    pids_of_generators+=($!)
  done
  sleep 14
  # While both run: what the source has open, its own count of it.
  inside ss -Htn state established "sport = :$entry_port" | wc -l >"$work/runs/connections.open"
  wait "${pids_of_generators[@]}"
}

run_base() {
  open_tunnel
  # shellcheck disable=SC2046
  generate base latency --closed --connections 1 --duration 3s --target "127.0.0.1:$entry_port" $(subjects)
}

run_tunnels() {
  generate tunnels many-tunnels --tunnels 1000 --active 10 --relay-loops 1 --duration 60s --rounds 10
}

run_handshakes() {
  local tunnels
  for tunnels in 500 2000 5000; do
    generate "handshakes-$tunnels" storm --tunnels "$tunnels" --cut reset --relay-loops 1
  done
}

main "$@"
