#!/usr/bin/env bash
# What takes too long for every run: PostgreSQL killed at every statement, of which `make test` samples a quarter;
# 2,000 random Plans, simulated and run, of which it takes 400; expressions thrown at the evaluator within 256 MiB,
# FUZZ_SECONDS (ten minutes); and the parsers of everything that `verify` reads fuzzed, as long each, two at a time. What
# was found interesting is kept beside the build cache and is begun with the next time.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

cd "$CLUSTER_DIR/../.."
"$CLUSTER_DIR/build.sh" packages
say "killing PostgreSQL at every statement (about 5 min)"
COUNTERSIGN_KILLS=all cargo test --workspace --test faults -- --nocapture

say "simulating and running 2,000 Plans (about 1 min)"
COUNTERSIGN_SIM_TWINS=2000 cargo test --quiet --workspace --test twins >&2

cd operator/core
export PATH=$CACHE/tools/bin:$PATH
FUZZ_SECONDS=${FUZZ_SECONDS:-600}
CORPUS=$CACHE/corpus

seed=${COUNTERSIGN_SEED:-$RANDOM}
say "throwing expressions at the evaluator for $FUZZ_SECONDS s (COUNTERSIGN_SEED=$seed)"
COUNTERSIGN_SEED=$seed COUNTERSIGN_SOAK_SECONDS=$FUZZ_SECONDS \
  cargo test --quiet --workspace --test evaluator -- --nocapture >&2

# libFuzzer is C++.
if ! command -v g++ >/dev/null; then
  say "installing g++ (about 20 s, once)"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >/dev/null
fi
if ! command -v cargo-fuzz >/dev/null; then
  say "installing cargo-fuzz (about 1 min, once)"
  (cd / && cargo install --quiet --debug --locked --root "$CACHE/tools" cargo-fuzz@0.13.2)
fi
say "building the fuzzers (about 2 min, once)"
# The core is safe Rust, and a stable compiler has no sanitizers.
build=(--sanitizer none --target-dir "$CLUSTER_DIR/../../target/fuzz")
quietly "building the fuzzers" cargo fuzz build "${build[@]}"
mapfile -t targets < <(cargo fuzz list)

fuzz() {
  local target=$1 corpus=$CORPUS/$1 log=$CORPUS/$1.log
  mkdir -p "$corpus"
  seeds "$target" "$corpus"
  if cargo fuzz run "${build[@]}" "$target" "$corpus" -- -max_total_time="$FUZZ_SECONDS" -max_len=65536 -timeout=10 \
    -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
    say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs in $FUZZ_SECONDS s, nothing found"
  else
    tail -40 "$log" >&2
    die "$target: the fuzzer found something; above is what, and $log has all of it"
  fi
}

# Something of the right shape to begin with: events that were logged.
seeds() {
  case $1 in
    json) split -l 1 events/v1.samples.jsonl "$2/seed-" ;;
    entry)
      jq -Sc '{at, kind, payload: ("sha256:" + ("0" * 64)), salt: "00", task: {name: "t", namespace: "n", uid: "u"}, version: 1}' \
        events/v1.samples.jsonl | split -l 1 - "$2/seed-"
      ;;
    note) jq -r 'select(.kind == "rotateKey") | .note, .old' events/v1.samples.jsonl >"$2/seed" ;;
    line) jq -c '{index: 1, body: (tostring | @base64), payload: null, proof: []}' events/v1.samples.jsonl | split -l 1 - "$2/seed-" ;;
    proof) head -c 400 events/v1.samples.jsonl >"$2/seed" ;;
  esac
}

say "fuzzing ${targets[*]}: $FUZZ_SECONDS s each, two at a time (about $((FUZZ_SECONDS * (${#targets[@]} + 1) / 2 / 60)) min)"
failed=0
for ((i = 0; i < ${#targets[@]}; i += 2)); do
  pids=()
  for target in "${targets[@]:i:2}"; do
    fuzz "$target" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
done
exit "$failed"
