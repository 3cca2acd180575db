#!/usr/bin/env bash
# PostgreSQL for the local cluster: Debian's, on the node, with data of its own.
#   start | stop | checkpoint | kill | url | operator-url | broker-url | signer-url | local-url | psql [ARGS]
# `kill` ends it as a crash would (immediate shutdown). On kind or an existing cluster the chart brings
# its own PostgreSQL, and the URLs print nothing. `url` is the
# owner's, `operator-url`, `broker-url` and `signer-url` are those of roles which `countersign migrate` makes and which cannot change the log.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DATA=$STATE/postgres
PASSWORD_FILE=$STATE/postgres.password

program() {
  local found
  found=$(find /usr/lib/postgresql/*/bin -name "$1" 2>/dev/null | sort -V | tail -1)
  [[ -n $found ]] || die "PostgreSQL's $1 is not installed; run e2e/cluster/build.sh"
  echo "$found"
}
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups env -C / "$@"; }
url() { echo "postgres://$2:$(cat "$PASSWORD_FILE")@$1:$POSTGRES_PORT/countersign"; }
running() { [[ -d $DATA ]] && as_postgres "$(program pg_ctl)" -D "$DATA" status >/dev/null 2>&1; }

prepare() {
  [[ -f $DATA/PG_VERSION ]] && return
  say "making a PostgreSQL database"
  mkdir -p "$DATA"
  chmod 711 "$STATE"
  chown postgres: "$DATA"
  (umask 077 && openssl rand -hex 24 >"$PASSWORD_FILE")
  as_postgres "$(program initdb)" -D "$DATA" --auth-local peer --auth-host scram-sha-256 --encoding UTF8 --locale C.UTF-8 >/dev/null
  cat >>"$DATA/postgresql.conf" <<CONF
port = $POSTGRES_PORT
listen_addresses = '*'
unix_socket_directories = '$DATA'
max_connections = 200
CONF
  printf 'host all all %s scram-sha-256\nhost all all %s/32 scram-sha-256\n' "$POD_CIDR" "$NODE_IP" >>"$DATA/pg_hba.conf"
}

start() {
  prepare
  if ! running; then
    setsid setpriv --reuid postgres --regid postgres --init-groups env -C / \
      "$(program pg_ctl)" -D "$DATA" -w -t 180 -l "$DATA/log" start >/dev/null </dev/null
  fi
  wait_for 60 PostgreSQL as_postgres "$(program pg_isready)" -q -h "$DATA" -p "$POSTGRES_PORT"
  if [[ -z $(superuser -tAc "select 1 from pg_roles where rolname = 'countersign'") ]]; then
    superuser -qc "create role countersign login createdb createrole password '$(cat "$PASSWORD_FILE")'"
    superuser -qc "create database countersign owner countersign"
  fi
}
superuser() { as_postgres "$(program psql)" -X -h "$DATA" -p "$POSTGRES_PORT" -d postgres "$@"; }

if [[ $(flavour) != local ]]; then exit 0; fi
case ${1:-} in
  start) start ;;
  stop) if running; then as_postgres "$(program pg_ctl)" -D "$DATA" -m fast -w stop >/dev/null; fi ;;
  checkpoint) superuser -qc checkpoint ;;
  kill) as_postgres "$(program pg_ctl)" -D "$DATA" -m immediate -w stop >/dev/null ;;
  url) url "$NODE_IP" countersign ;;
  operator-url) url "$NODE_IP" countersign_operator ;;
  broker-url) url "$NODE_IP" countersign_broker ;;
  signer-url) url "$NODE_IP" countersign_signer ;;
  local-url) url 127.0.0.1 countersign ;;
  psql)
    shift
    exec "$(program psql)" -X "$(url 127.0.0.1 countersign)" "$@"
    ;;
  *) die "postgres.sh: start, stop, checkpoint, kill, url, operator-url, broker-url, signer-url, local-url or psql" ;;
esac
