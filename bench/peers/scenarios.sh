# shellcheck shell=bash
# What is asked of the systems, and of which. All sizes are 64 bytes where nothing else is said.

scenarios_all=(
  bulk-up bulk-down bulk-16-up bulk-16-down
  rtt-1 rtt-64 rtt-1000 rtt-paced rtt-beside-up rtt-beside-down
  connect idle fair-50 stall-50
)

# The generator's arguments.
scenario_arguments() {
  local time="--duration ${duration}s"
  case $1 in
    bulk-up) echo "bulk --direction up --connections 1 $time" ;;
    bulk-down) echo "bulk --direction down --connections 1 $time" ;;
    bulk-16-up) echo "bulk --direction up --connections 16 $time" ;;
    bulk-16-down) echo "bulk --direction down --connections 16 $time" ;;
    rtt-1) echo "latency --closed --connections 1 $time" ;;
    rtt-64) echo "latency --closed --connections 64 $time" ;;
    rtt-1000) echo "latency --closed --connections 1000 $time" ;;
    # One pace for all three, so that they differ by the bulk alone.
    rtt-paced) echo "latency --rate 500 --connections 1 $time" ;;
    rtt-beside-up) echo "mixed --rate 500 --connections 2 --interactive 1 --direction up $time" ;;
    rtt-beside-down) echo "mixed --rate 500 --connections 2 --interactive 1 --direction down $time" ;;
    connect) echo "churn --closed --connections 64 $time" ;;
    idle) echo "idle --connections 8000 $time" ;;
    fair-50) echo "bulk --direction up --connections 50 --duration 10s" ;;
    stall-50) echo "stall --connections 50 --duration 10s" ;;
    *) return 1 ;;
  esac
}

# Whether a scenario says something about a system: the rest would only cost time.
concerns() {
  case $1 in
    bulk-up | bulk-down | rtt-1) true ;;
    rtt-64) [[ $2 != direct && $2 != socat ]] ;;
    bulk-16-up | rtt-1000 | connect) [[ $2 != direct && $2 != socat && $2 != haproxy-1 ]] ;;
    bulk-16-down) [[ $2 == adit || $2 == haproxy-3* || $2 == ssh || $2 == penguin ]] ;;
    # Without a forwarder, too: a pace that generator and server do not keep is not the system's fault.
    rtt-paced | rtt-beside-*) [[ $2 == adit || $2 == haproxy-3* || $2 == ssh || $2 == penguin || $2 == direct ]] ;;
    idle | fair-50 | stall-50) [[ $2 == adit || $2 == haproxy-3* ]] ;;
  esac
}
