#!/usr/bin/env bash
# Checks every query against a scratch database and writes what was learnt to .sqlx, so that a build needs
# no PostgreSQL. With --check, says whether what is committed is stale. The command is what compiles the store; where
# another one is to be run anyway, nothing is compiled twice.
#   DATABASE_URL=postgres://... prepare.sh [--check] [COMMAND...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
: "${DATABASE_URL:?set it to a PostgreSQL in which a database may be created}"

check=
if [[ ${1:-} == --check ]]; then
  check=1
  shift
fi
if (($# == 0)); then set -- cargo check -q -p countersign-store; fi

scratch=countersign_prepare_$$
base=${DATABASE_URL%/*}
psql -Xq "$DATABASE_URL" -c "create database $scratch"
out=$(mktemp -d)
trap 'psql -Xq "$DATABASE_URL" -c "drop database $scratch"; rm -rf "$out"' EXIT
for migration in migrations/*.sql; do psql -Xq -v ON_ERROR_STOP=1 "$base/$scratch" -f "$migration"; done

touch src/lib.rs
DATABASE_URL=$base/$scratch SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$out "$@"
if [[ -n $check ]]; then
  diff -r "$out" .sqlx >/dev/null || { echo "stale: operator/store/.sqlx; run operator/store/prepare.sh" >&2; exit 1; }
else
  rm -rf .sqlx
  mkdir .sqlx
  cp "$out"/* .sqlx/
fi
