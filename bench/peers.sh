#!/usr/bin/env bash
# Runs adit and what a user would otherwise take (HAProxy, stunnel, socat, ssh) through the same scenarios, interleaved,
# and writes one report: bench/RESULTS.md with a plot. See bench/peers/README.md.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
# shellcheck source-path=SCRIPTDIR source=peers/lab.sh
source "$here/peers/lab.sh"
# shellcheck source-path=SCRIPTDIR source=peers/systems.sh
source "$here/peers/systems.sh"
# shellcheck source-path=SCRIPTDIR source=peers/scenarios.sh
source "$here/peers/scenarios.sh"

usage() {
  cat <<TEXT
Usage: bench/peers.sh [OPTIONS]

Runs every system through every scenario that says something about it, and renders bench/RESULTS.md.
Takes root (network namespaces, control groups).

  --systems A,B,…     only these: ${systems_all[*]}
  --without A,B,…     not these
  --scenarios A,B,…   only these: ${scenarios_all[*]}
  --repeat N          rounds; each runs everything once [5]
  --duration SECONDS  of a run; fairness, stall and idle runs are longer [3]
  --no-install        do not install what is missing, fail
  --strict            end with exit code 1 if a run failed
  --no-build          take the binaries in target/release as they are
  --no-render         keep the runs, write no report
  --render FILE,…     no runs: render the report from saved runs.jsonl; a later file takes the place of earlier ones
                      in the scenarios that it has
  --results FILE      where the report goes; the plot beside it [bench/RESULTS.md]
  --help

Runs are kept in target/peers/DATE/: runs.jsonl, a line each, and the generator's own files below runs/.
Environment: ADIT and ADIT_LOADGEN name other binaries than those in target/release.
TEXT
}

main() {
  local systems=() scenarios=() without='' repeat=5 install=1 build=1 render=1 strict=0 saved='' results=$here/RESULTS.md
  local command_line=(${ADIT:+ADIT=other} ${ADIT_LOADGEN:+ADIT_LOADGEN=other} "bench/peers.sh" "$@")
  duration=3
  while [ "$#" -gt 0 ]; do
    case $1 in
      --systems) IFS=, read -ra systems <<<"${2:?--systems needs names}"; shift ;;
      --without) without=${2:?--without needs names}; shift ;;
      --scenarios) IFS=, read -ra scenarios <<<"${2:?--scenarios needs names}"; shift ;;
      --repeat) repeat=$(whole_number "$1" "${2:-}"); shift ;;
      --duration) duration=$(whole_number "$1" "${2:-}"); shift ;;
      --no-install) install=0 ;;
      --strict) strict=1 ;;
      --no-build) build=0 ;;
      --no-render) render=0 ;;
      --render) saved=${2:?--render needs a runs.jsonl}; shift ;;
      --results) results=${2:?--results needs a file}; shift ;;
      --help | -h) usage; return ;;
      *) die "$1 is no option" "bench/peers.sh --help lists them" ;;
    esac
    shift
  done
  if [ -n "$saved" ]; then
    python3 "$here/peers/render.py" "$saved" "$results"
    return
  fi

  [ "${#systems[@]}" -gt 0 ] || systems=("${systems_all[@]}")
  [ "${#scenarios[@]}" -gt 0 ] || scenarios=("${scenarios_all[@]}")
  known 'system' "${systems_all[*]} ${systems_more[*]}" "${systems[@]}"
  known 'scenario' "${scenarios_all[*]}" "${scenarios[@]}"
  drop_without
  [ "$(id -u)" = 0 ] || die "network namespaces and control groups need root" "run it with sudo"
  have_installed "$install" "${systems[@]}"
  adit=${ADIT:-$root/target/release/adit}
  loadgen=${ADIT_LOADGEN:-$root/target/release/adit-loadgen}
  [ "$build" = 0 ] || (cd "$root" && cargo build --release -p adit -p adit-loadgen)
  local binary
  for binary in "$adit" "$loadgen"; do
    [ -x "$binary" ] || die "there is no $binary" "leave --no-build away"
  done

  work=$root/target/peers/$(date -u +%Y-%m-%dT%H-%M-%SZ)
  mkdir -p "$work/runs"
  runs=$work/runs.jsonl
  descriptors
  lab_prepare
  trap lab_end EXIT
  trap 'exit 130' INT TERM
  prepare_secrets
  python3 "$here/peers/record.py" machine "$root" "$congestion" "$accounting" "${command_line[*]}" \
    "$(versions "${systems[@]}")" >"$runs"

  local round scenario system order
  for ((round = 1; round <= repeat; round++)); do
    note busy "$round"
    for scenario in "${scenarios[@]}"; do
      # Nobody is always the first after a pause, nor always behind the same neighbour.
      order=("${systems[@]:round % ${#systems[@]}}" "${systems[@]:0:round % ${#systems[@]}}")
      for system in "${order[@]}"; do
        if concerns "$scenario" "$system"; then
          run_one "$round" "$scenario" "$system"
        fi
      done
    done
  done
  say "runs: $runs"
  [ "$render" = 0 ] || python3 "$here/peers/render.py" "$runs" "$results"
  [ "$strict" = 0 ] || ! grep -q '"exit_code": [^0]' "$runs" || die "a run failed" "its line is in $runs"
}

whole_number() {
  [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || die "$1 ${2:-} is no whole number from 1 to 9999"
  printf '%s' "$2"
}

# known WORD "ALL" NAMES…: stops at a name that is none of them.
known() {
  local word=$1 all=" $2 " name
  shift 2
  for name in "$@"; do
    [[ $all == *" $name "* ]] || die "$name is no $word" "there are:$all"
  done
}

# Takes the names of --without out of `systems`, both of main.
drop_without() {
  local names name kept=()
  IFS=, read -ra names <<<"$without"
  known 'system' "${systems_all[*]} ${systems_more[*]}" ${names[@]+"${names[@]}"}
  for name in "${systems[@]}"; do
    [[ ",$without," == *",$name,"* ]] || kept+=("$name")
  done
  [ "${#kept[@]}" -gt 0 ] || die "no system is left"
  systems=("${kept[@]}")
}

# Eight thousand connections through a forwarder are sixteen thousand descriptors.
descriptors() {
  local limit
  limit=$(ulimit -Hn)
  [ "$limit" = unlimited ] || [ "$limit" -ge 20000 ] ||
    die "a process may have only $limit descriptors" "20000 are needed: raise the hard limit (ulimit -Hn)"
  ulimit -n 20000
}

# One measured run: everything new (namespace, processes, far end), a warm-up that proves the way, the run, its line.
run_one() {
  local round=$1 scenario=$2 system=$3 code=0
  local out=$work/runs/$round-$scenario-$system
  mkdir -p "$out"
  lab_open "$out"
  start_outside server "$loadgen" serve --listen "127.0.0.1:$server_port"
  if "start_$system" && warm_up; then
    # shellcheck disable=SC2046
    inside timeout -k 5 $((duration * 2 + 45)) "$loadgen" $(scenario_arguments "$scenario") --target "127.0.0.1:$entry_port" \
      --seed "$round" --quiet --out "$out" $(subjects) >"$out/stdout.log" 2>"$out/stderr.log" || code=$?
  else
    code=100
  fi
  lab_close
  note run "$round" "$scenario" "$system" "$code" "$out"
}

# Adds a line to the runs, and says it in words.
note() {
  python3 "$here/peers/record.py" "$@" >>"$runs"
  say "$(tail -n 1 "$runs" | python3 "$here/peers/record.py" line)"
}

# Retried until the way is open; 20 s.
warm_up() {
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    if inside "$loadgen" latency --rate 100 --connections 1 --duration 300ms --quiet \
      --target "127.0.0.1:$entry_port" >"$logs/warm-up.log" 2>&1; then
      return
    fi
    sleep 0.2
  done
  say "warm-up failed: $(tail -n 2 "$logs/warm-up.log" | tr '\n' ' ')"
  return 1
}

main "$@"
