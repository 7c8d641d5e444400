#!/usr/bin/env bash
# ip6tables-legacy 1.8.9 -C finds a rule that is not there: it compares the match of the protocol, but not its ports. With
# a rule for port 8080, -C says that one for port 9000 exists. -D with the same words finds nothing, and iptables-legacy
# and ip6tables-nft answer as expected. A program that adds a rule only if -C does not find it, as netavark does, leaves
# out all IPv6 rules behind the first that differ from it in the port only.
#
# Run it as root on Debian 12: it unpacks a pinned package in a temporary folder, and works in a network namespace that
# ends with it.
set -euo pipefail
version=1.8.9-2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download "iptables=$version" "libxtables12=$version" "libip4tc2=$version" \
  "libip6tc2=$version" libnftnl11 libmnl0
for package in ./*.deb; do dpkg-deb -x "$package" root; done
libraries=$(dirname "$(find "$work/root" -name 'libxtables.so.12' | head -n 1)")
export LD_LIBRARY_PATH=$libraries XTABLES_LIBDIR=$libraries/xtables XTABLES_LOCKFILE=$work/lock
export programs=$work/root/usr/sbin

inside() { # in a new network namespace: which of the programs finds a rule for port 9000 where one for 8080 is
  local program found
  "$programs/ip6tables-legacy" --version
  for program in iptables-legacy ip6tables-legacy ip6tables-nft; do
    "$programs/$program" -A INPUT -p tcp --dport 8080 -j ACCEPT
    for command in -C -D; do
      found=no
      ! "$programs/$program" "$command" INPUT -p tcp --dport 9000 -j ACCEPT 2>/dev/null || found=yes
      echo "$program $command with port 9000: $found"
    done
  done
}
export -f inside
seen=$(unshare -n bash -euo pipefail -c 'inside')
echo "$seen"
expected="ip6tables v1.8.9 (legacy)
iptables-legacy -C with port 9000: no
iptables-legacy -D with port 9000: no
ip6tables-legacy -C with port 9000: yes
ip6tables-legacy -D with port 9000: no
ip6tables-nft -C with port 9000: no
ip6tables-nft -D with port 9000: no"
if [[ $seen == "$expected" ]]; then
  echo "as on 2026-11-30: only ip6tables-legacy -C finds a rule with another port"
else
  echo "this is not the behaviour that was seen on 2026-11-30 with iptables $version"
  exit 1
fi
