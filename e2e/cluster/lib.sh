# Shared by the scripts of the local cluster: where things are, and how progress is told.
# shellcheck shell=bash disable=SC2034

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${COUNTERSIGN_CACHE:-$HOME/.cache/countersign}
# Of the machine, not of root's home, as PostgreSQL's own user must reach its data in it.
STATE=${COUNTERSIGN_STATE:-$([[ $(id -u) == 0 ]] && echo /var/lib/countersign || echo "$HOME/.local/state/countersign")}
BIN=$CACHE/bin

# The node and its networks. Nothing of it is routed beyond this machine.
NODE=countersign
NODE_IP=10.213.0.1
SERVICE_CIDR=10.214.0.0/16
SERVICE_IP=10.214.0.1
POD_CIDR=10.215.0.0/16
API_PORT=26443
POSTGRES_PORT=25432
REGISTRY=${COUNTERSIGN_REGISTRY:-registry.local/countersign}

export PATH=$BIN:$PATH

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# wait_for SECONDS WHAT COMMAND...: polls until the command succeeds, with a line every 5 s.
wait_for() {
  local limit=$1 what=$2 start=$SECONDS last=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS - start >= limit)); then
      die "gave up on $what after $limit s"
    fi
    if ((SECONDS - last >= 5)); then
      last=$SECONDS
      say "waiting for $what ($((SECONDS - start)) s)"
    fi
    sleep 0.2
  done
}

# telling WHAT COMMAND...: runs the command, with a line every 5 s that says what is waited for and for how long.
telling() {
  local what=$1 start=$SECONDS pulse
  shift
  while sleep 5; do say "$what ($((SECONDS - start)) s)"; done &
  pulse=$!
  # In a shell of its own, which ends at the first command that fails, and then the pulse with it.
  (
    trap 'hush "$pulse"' EXIT
    "$@"
  )
}

# quietly WHAT COMMAND...: the same, with the command's own output kept in a log: every 5 s its last line is shown, and
# the whole of it where the command fails.
quietly() {
  local what=$1 start=$SECONDS pulse log
  shift
  log=$(mktemp)
  while sleep 5; do say "$what ($((SECONDS - start)) s): $(tail -n 1 "$log" | tr -d '\r' | cut -c1-100)"; done &
  pulse=$!
  (
    trap 'code=$?; hush "$pulse"; if ((code)); then cat "$log" >&2; fi; rm -f "$log"' EXIT
    "$@" >"$log" 2>&1
  )
}

# hush PULSE: ends what says every 5 s how far it is.
hush() { kill "$1"; }

# flavour: existing, kind or local; what a user has decides.
flavour() {
  if [[ ${COUNTERSIGN_CLUSTER:-} == existing ]]; then
    [[ -n ${KUBECONFIG:-} ]] || die "COUNTERSIGN_CLUSTER=existing needs KUBECONFIG"
    echo existing
  elif command -v kind >/dev/null && command -v docker >/dev/null && docker info >/dev/null 2>&1; then
    echo kind
  elif [[ $(uname -s) == Linux && $(id -u) == 0 ]]; then
    echo local
  else
    die "no cluster to be had: set KUBECONFIG and COUNTERSIGN_CLUSTER=existing, or install Docker and kind, or run as root on Linux"
  fi
}

# The kubeconfig that the scripts use, whatever the flavour.
kubeconfig() {
  if [[ ${COUNTERSIGN_CLUSTER:-} == existing ]]; then echo "$KUBECONFIG"; else echo "$STATE/kubeconfig"; fi
}

# spawn NAME COMMAND...: starts a daemon that outlives its caller, and remembers its pid.
spawn() {
  local name=$1
  shift
  mkdir -p "$STATE/pids" "$STATE/logs"
  setsid nohup "$@" >"$STATE/logs/$name.log" 2>&1 </dev/null &
  local pid=$!
  # The start time tells this process from a later one that was given the same pid.
  printf '%s %s\n' "$pid" "$(cut -d' ' -f22 "/proc/$pid/stat")" >"$STATE/pids/$name"
}

# alive NAME: whether the daemon that was remembered under this name still runs.
alive() {
  local pid started
  [[ -f $STATE/pids/$1 ]] || return 1
  read -r pid started <"$STATE/pids/$1"
  [[ -r /proc/$pid/stat && $(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null) == "$started" ]]
}

# stop NAME SECONDS: ends that very process, and waits for it.
stop() {
  local pid _started
  if alive "$1"; then
    read -r pid _started <"$STATE/pids/$1"
    kill "$pid"
    local end=$((SECONDS + $2))
    while alive "$1" && ((SECONDS < end)); do sleep 0.1; done
    if alive "$1"; then kill -9 "$pid"; fi
  fi
  rm -f "$STATE/pids/$1"
}
