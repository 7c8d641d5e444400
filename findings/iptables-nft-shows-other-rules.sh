#!/usr/bin/env bash
# iptables-nft-save 1.8.9 shows some rules that nft wrote into the table filter as other rules, with exit code 0: a rule
# with a set of addresses as one without any condition, a range of addresses as its last address, a length of UDP packets
# as all UDP packets. So what it prints is not what the kernel does, if nft also writes into the table.
#
# Run it as root on Debian 12: it unpacks the pinned packages in a temporary folder and runs them in a network namespace.
set -euo pipefail
iptables=1.8.9-2 nftables=1.0.6-2+deb12u2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 "$work"
apt-get -qq download "iptables=$iptables" "libip4tc2=$iptables" "libip6tc2=$iptables" "libxtables12=$iptables" \
  "nftables=$nftables" "libnftables1=$nftables" libnftnl11 libmnl0 libjansson4 libedit2
for package in ./*.deb; do dpkg -x "$package" root; done
multi=$(find "$work/root" -name xtables-nft-multi)
nft=$(find "$work/root" -path '*sbin/nft')
extensions=$(find "$work/root" -type d -name xtables | head -n 1)
libraries=$(dirname "$(find "$work/root" -name 'libxtables.so.12' | head -n 1)")
export multi nft LD_LIBRARY_PATH="$libraries" XTABLES_LIBDIR="$extensions"

shown=$(unshare -n bash -euc '
  "$multi" iptables -N WRITTEN-BY-NFT
  while read -r rule; do
    "$nft" add rule ip filter WRITTEN-BY-NFT $rule
    printf "%-46s => " "$rule"
    "$multi" iptables-save -t filter | grep -- "-A WRITTEN-BY-NFT"
    "$nft" flush chain ip filter WRITTEN-BY-NFT
  done <<RULES
ip daddr { 192.0.2.1, 192.0.2.2 } drop
ip saddr 192.0.2.1-192.0.2.9 drop
udp length 80 drop
RULES
')
printf '%s\n' "$shown"
expected='ip daddr { 192.0.2.1, 192.0.2.2 } drop         => -A WRITTEN-BY-NFT -j DROP
ip saddr 192.0.2.1-192.0.2.9 drop              => -A WRITTEN-BY-NFT -s 192.0.2.9/32 -j DROP
udp length 80 drop                             => -A WRITTEN-BY-NFT -p udp -j DROP'
if [ "$shown" != "$expected" ]; then
  echo "this is not the behaviour that was seen on 2026-11-29"
  exit 1
fi
echo "as on 2026-11-29: three rules are shown as others"
