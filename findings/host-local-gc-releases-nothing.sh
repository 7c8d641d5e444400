#!/usr/bin/env bash
# host-local 1.9.1 answers the command GC of CNI 1.1.0 with exit code 0 and keeps the addresses of every attachment that
# is not in the list of valid ones. DEL for the same attachment releases its address. So a plugin that delegates to
# host-local, or a runtime, has to call DEL for each attachment that it drops: after GC alone, the range runs full.
#
# Run it on Debian 12 or later, as any user who can read the package lists: it unpacks the pinned package of Debian 14 in
# a temporary folder. host-local needs no network and no root: its addresses are files in the folder `dataDir`.
set -euo pipefail
version=1.9.1+ds1-1 suite=forky
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" && !n++ {print $2}')
mkdir -p "$work"/lists/partial "$work"/archives/partial "$work"/data
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status" -o "Dir::Cache::Archives=$work/archives"
  -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download "containernetworking-plugins=$version")
dpkg-deb -x "$work"/containernetworking-plugins_*.deb "$work/root"
plugins=$work/root/usr/lib/cni

# call COMMAND CONTAINER MORE-KEYS: call host-local; print its exit code and its output
call() {
  local code=0 output
  output=$(echo "{\"cniVersion\": \"1.1.0\", \"name\": \"net\", \"type\": \"host-local\", $3
    \"ipam\": {\"type\": \"host-local\", \"dataDir\": \"$work/data\", \"subnet\": \"192.0.2.0/29\"}}" |
    env -i CNI_COMMAND="$1" CNI_CONTAINERID="$2" CNI_NETNS=/none CNI_IFNAME=eth0 CNI_PATH="$plugins" \
      "$plugins/host-local") || code=$?
  printf '%s %s: exit code %d %s\n' "$1" "$2" "$code" "$(tr -d '\n\t ' <<<"$output")"
  return "$code"
}
reserved() { (cd "$work/data/net" && ls -d 192.*) | tr '\n' ' '; }

failed=0
call ADD one '' || failed=1
call ADD two '' || failed=1
[[ $(reserved) == "192.0.2.2 192.0.2.3 " ]] || failed=1
call GC '' '"cni.dev/valid-attachments": [{"containerID": "one", "ifname": "eth0"}],' || failed=1
echo "reserved after GC with only container one valid: $(reserved)"
[[ $(reserved) == "192.0.2.2 192.0.2.3 " ]] || failed=1
call DEL two '' || failed=1
echo "reserved after DEL of container two: $(reserved)"
[[ $(reserved) == "192.0.2.2 " ]] || failed=1
if ((failed)); then
  echo "this is not the behaviour that was seen on 2026-11-29 with containernetworking-plugins $version"
  exit 1
fi
echo "as on 2026-11-29: GC succeeds and releases nothing, DEL releases the address"
