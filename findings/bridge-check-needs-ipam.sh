#!/usr/bin/env bash
# The CNI plugin bridge 1.9.1 creates a device without an address if the configuration has `"ipam": {}`, as its page says
# ("L2-only configuration"). Its CHECK for the same container then fails with "no plugin name provided": CHECK calls the
# IPAM plugin although there is none. So a runtime that calls CHECK, such as CRI-O, cannot use such a network with
# cniVersion 0.4.0 or later. DEL succeeds.
#
# Run it as root on Debian 12 or later: it unpacks the pinned package of Debian 14 in a temporary folder, and works in
# network namespaces that end with it.
set -euo pipefail
version=1.9.1+ds1-1 suite=forky
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" && !n++ {print $2}')
mkdir -p "$work"/lists/partial "$work"/archives/partial
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status" -o "Dir::Cache::Archives=$work/archives"
  -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Acquire::Languages=none)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download "containernetworking-plugins=$version")
dpkg-deb -x "$work"/containernetworking-plugins_*.deb "$work/root"
export work

call() { # COMMAND RESULT-OF-ADD: call bridge; print its exit code and its output
  local code=0 previous=''
  [[ -z $2 ]] || previous="\"prevResult\": $2,"
  echo "{\"cniVersion\": \"1.0.0\", \"name\": \"frames\", \"type\": \"bridge\", \"bridge\": \"br0\", $previous \"ipam\": {}}" |
    CNI_COMMAND=$1 CNI_CONTAINERID=one CNI_NETNS=/run/netns/one CNI_IFNAME=eth0 CNI_PATH=$work/root/usr/lib/cni \
      "$work/root/usr/lib/cni/bridge" >"$work/out" || code=$?
  printf '%s: exit code %d\n' "$1" "$code"
  return "$code"
}
inside() { # in new network and mount namespaces
  mount -t tmpfs none /run
  mkdir /run/netns
  ip netns add one
  local result failed=0
  call ADD '' || failed=1
  result=$(<"$work/out")
  ip -n one -br link show eth0 || failed=1
  if call CHECK "$result"; then failed=1; fi
  grep -q '"no plugin name provided"' "$work/out" || failed=1
  grep '"msg"' "$work/out" || true
  call DEL "$result" || failed=1
  return "$failed"
}
export -f call inside
if unshare -nm --propagation private bash -euo pipefail -c inside; then
  echo "as on 2026-11-29: ADD and DEL succeed, CHECK asks for an IPAM plugin"
else
  echo "this is not the behaviour that was seen on 2026-11-29 with containernetworking-plugins $version"
  exit 1
fi
