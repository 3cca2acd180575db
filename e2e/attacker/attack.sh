#!/bin/sh
# Tries to get out of the sandbox in every way that a shell knows, and says of each what came of it: "refused", or what
# it got. The input names the targets: {"api": "IP:PORT", "decoys": "IP:PORT IP:PORT"}.
input=$(cat)
field() { printf '%s' "$input" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
out='{'
# try NAME COMMAND...: what it printed where it went well.
try() {
  name=$1
  shift
  if got=$("$@" 2>/dev/null </dev/null | head -c 60 | tr -cd 'A-Za-z0-9 ._:/-') && [ -n "$got" ]; then :; else got=refused; fi
  out="$out\"$name\":\"$got\","
}
# A connection alone proves nothing: what it was made to says who is there.
connect() { printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 "${1%:*}" "${1##*:}" | grep decoy; }
straight() { curl -sS --fail --noproxy '*' --max-time 3 "http://$1/"; }
resolve() { nslookup kubernetes.default "${1%:*}" | grep Address; }
pinged() { ping -c 1 -W 1 "${1%:*}" | grep 'bytes from'; }

try api curl -sSk --noproxy '*' --max-time 3 "https://$(field api)/version"
n=0
for decoy in $(field decoys); do
  n=$((n + 1))
  try "straight$n" straight "$decoy"
  try "wget$n" wget -q -T 2 -O - "http://$decoy/"
  try "nc$n" connect "$decoy"
  try "dns$n" resolve "$decoy"
  try "ping$n" pinged "$decoy"
  # Through the broker, to where the Skill may not go.
  try "proxy$n" curl -sS --fail --max-time 10 "http://$decoy/"
done
try token cat /var/run/secrets/kubernetes.io/serviceaccount/token
try attempt cat /countersign/input/attempt.json
try brokertoken cat /countersign/input/token
try environ cat /proc/1/environ
try memory dd if=/proc/1/mem bs=1 count=1
try descriptors ls /proc/1/fd
try report sh -c 'echo forged >/dev/termination-log && echo written'
try root sh -c 'echo x >/etc/x && echo written'
try binary sh -c 'echo x >/countersign/bin/runner && echo written'
try killed sh -c 'kill -9 1 && echo signalled'
try mounted sh -c 'mount -t tmpfs x /tmp && echo mounted'
try unshared sh -c 'unshare -r -n echo unshared'
try chroot sh -c 'busybox chroot / echo chrooted'
try socket sh -c 'busybox ifconfig lo | head -1'
try netlink sh -c 'ip link'
try raw sh -c 'busybox arping -c 1 127.0.0.1'
printf '%s"done":"yes"}\n' "$out"
