#!/usr/bin/env bash
# The TRACE target of iptables-legacy 1.8.9 reports an unconditional rule of a built-in chain as "policy". In a chain with
# the one rule `-j ACCEPT`, and in an empty chain with the policy ACCEPT, the log says the same: "policy:1". A reader who
# does not know the rules cannot tell which of them decided. A rule with a match is a "rule". In a chain of one's own, an
# unconditional verdict is a "return", although the packet does not return from there.
#
# Run it as root on Debian 12: it unpacks the pinned packages in a temporary folder, and pings 127.0.0.1 in a network
# namespace of its own, where ulogd2 2.0.8 writes down what the kernel logs.
set -euo pipefail
iptables=1.8.9-2 ulogd=2.0.8-1
self=$(readlink -f -- "${BASH_SOURCE[0]}")
if [[ ${1-} != inside ]]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  cd "$work"
  apt-get -qq download "iptables=$iptables" "libip4tc2=$iptables" "libip6tc2=$iptables" "libxtables12=$iptables" \
    "ulogd2=$ulogd" libnetfilter-log1 libnfnetlink0 libnetfilter-conntrack3 libnetfilter-acct1 libmnl0
  for package in ./*.deb; do dpkg -x "$package" root; done
  unshare -nm --propagation private "$BASH" "$self" inside "$work"
  exit
fi

cd "$2"
LD_LIBRARY_PATH=$(find "$PWD/root" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
XTABLES_LIBDIR=$(find "$PWD/root" -name xtables -type d | head -n 1)
export LD_LIBRARY_PATH XTABLES_LIBDIR XTABLES_LOCKFILE=$PWD/lock
legacy() { "$PWD/root/usr/sbin/iptables-legacy" "$@"; }

ip link set lo up
echo nfnetlink_log >/proc/sys/net/netfilter/nf_log/2
plugins=$(find "$PWD/root" -name ulogd -type d -path '*lib*' | head -n 1)
cat >ulogd.conf <<CONF
[global]
logfile="$PWD/ulogd.log"
plugin="$plugins/ulogd_inppkt_NFLOG.so"
plugin="$plugins/ulogd_raw2packet_BASE.so"
plugin="$plugins/ulogd_filter_IFINDEX.so"
plugin="$plugins/ulogd_filter_IP2STR.so"
plugin="$plugins/ulogd_filter_PRINTPKT.so"
plugin="$plugins/ulogd_output_LOGEMU.so"
stack=log:NFLOG,base:BASE,ifi:IFINDEX,ip:IP2STR,print:PRINTPKT,emu:LOGEMU
[log]
group=0
[emu]
file="$PWD/seen"
sync=1
CONF
"$PWD/root/usr/sbin/ulogd" -c ulogd.conf >ulogd.out 2>&1 &
logger=$!
trap 'kill "$logger" 2>/dev/null || true; wait "$logger" 2>/dev/null || true' EXIT
for _ in {1..50}; do
  [[ -e seen ]] && break
  sleep 0.1
done
sleep 0.5

legacy -t raw -A PREROUTING -p icmp --icmp-type echo-request -j TRACE
legacy -N MINE
legacy -A MINE -j ACCEPT
legacy -A INPUT -p icmp -m comment --comment "with a match" -j MINE
ask() { # LABEL: ping once, and print what was logged about the table filter
  : >seen
  ping -n -q -c 1 -W 2 127.0.0.1 >/dev/null || true
  sleep 0.5
  printf '%s\n' "$1"
  grep -o 'TRACE: filter:[A-Za-z:0-9]*' seen | sort -u | sed 's/^/    /'
}
{
  ask "INPUT has one rule, -p icmp -j MINE; MINE has the rule -j ACCEPT"
  legacy -F INPUT
  legacy -A INPUT -j ACCEPT
  ask "INPUT has one rule, -j ACCEPT"
  legacy -F INPUT
  ask "INPUT has no rule, and the policy ACCEPT"
} | tee out

diff - out <<'SEEN' || { echo "this is not the behaviour that was seen on 2026-11-29"; exit 1; }
INPUT has one rule, -p icmp -j MINE; MINE has the rule -j ACCEPT
    TRACE: filter:INPUT:rule:1
    TRACE: filter:MINE:return:1
INPUT has one rule, -j ACCEPT
    TRACE: filter:INPUT:policy:1
INPUT has no rule, and the policy ACCEPT
    TRACE: filter:INPUT:policy:1
SEEN
echo "as on 2026-11-29"
