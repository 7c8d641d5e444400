#!/usr/bin/env bash
# The CNI plugin bridge 1.9.1 with `"ipMasqBackend": "nftables"` removes its nft rules at DEL, and then fails with code
# 999: it also removes the iptables rules that an earlier configuration may have left, and takes the error of iptables
# 1.8.9 for a chain that never existed for a real one. A runtime that reads the code takes the removal for failed. With
# `"ipMasqBackend": "iptables"` the same DEL succeeds.
#
# Run it as root on Debian 12 with iptables: it unpacks pinned packages in a temporary folder, and works in network
# namespaces that end with it.
set -euo pipefail
version=1.9.1+ds1-1 suite=forky nft_version=1.0.6-2+deb12u2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" && !n++ {print $2}')
mkdir -p "$work"/lists/partial "$work"/archives/partial "$work"/bin
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status" -o "Dir::Cache::Archives=$work/archives"
  -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Acquire::Languages=none)
"${apt[@]}" update
cd "$work"
"${apt[@]}" download "containernetworking-plugins=$version"
apt-get -qq -o APT::Sandbox::User=root download "nftables=$nft_version" "libnftables1=$nft_version" libjansson4 libedit2 \
  libbsd0 libmd0
for package in ./*.deb; do dpkg-deb -x "$package" root; done
libraries=$(dirname "$(find "$work/root" -name 'libnftables.so.1' | head -n 1)")
printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/root/usr/sbin/nft "$@"\n' "$libraries" "$work" >bin/nft
chmod +x bin/nft
for name in iptables ip6tables; do ln -s "$(command -v "$name-nft")" "bin/$name"; done
export work PATH=$work/bin:$PATH
iptables --version

inside() { # in new network and mount namespaces
  mount -t tmpfs none /run
  mkdir /run/netns
  local failed=0
  for backend in iptables nftables; do
    ip netns add "$backend"
    call ADD "$backend" || failed=1
    echo "masquerade rules of nft: $(masquerades)"
    if call DEL "$backend"; then
      [[ $backend == iptables ]] || failed=1
    else
      [[ $backend == nftables ]] || failed=1
    fi
    echo "masquerade rules of nft after DEL: $(masquerades)"
    [[ $(masquerades) == 0 ]] || failed=1
  done
  return "$failed"
}
masquerades() { nft list ruleset | grep -c 'net: net, if: eth0' || true; }
call() { # COMMAND BACKEND: call bridge for a container with the name of the back end
  local code=0 output ipam="{\"type\": \"host-local\", \"dataDir\": \"$work/data\", \"subnet\": \"192.0.2.0/24\"}"
  output=$(echo "{\"cniVersion\": \"1.0.0\", \"name\": \"net\", \"type\": \"bridge\", \"bridge\": \"br0\", \"isGateway\": true,
    \"ipMasq\": true, \"ipMasqBackend\": \"$2\", \"ipam\": $ipam}" |
    CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=$work/root/usr/lib/cni \
      "$work/root/usr/lib/cni/bridge") || code=$?
  printf '%s with %s: exit code %d\n' "$1" "$2" "$code"
  ((code == 0)) || grep -o '"code": [0-9]*\|"msg": .*' <<<"$output"
  return "$code"
}
export -f inside masquerades call
if unshare -nm --propagation private bash -euo pipefail -c 'inside'; then
  echo "as on 2026-11-29: with nftables, DEL removes the rules and fails"
else
  echo "this is not the behaviour that was seen on 2026-11-29 with containernetworking-plugins $version"
  exit 1
fi
