#!/usr/bin/env bash
# What nft 1.1.3 lists cannot always be loaded by nft 1.0.6, although the kernel's table is the same: a chain of type nat
# at the hook output with priority -100 is listed as `priority dstnat` by 1.1.3 and as `priority -100` by 1.0.6, and 1.0.6
# refuses the name there. Docker's and kube-proxy's tables have such a chain, so a dump of a newer machine does not load
# on Debian 12. A number is read by both.
#
# Run it as root on Debian 12: it unpacks pinned packages in a temporary folder, and works in network namespaces that end
# with it.
set -euo pipefail
old=1.0.6-2+deb12u2 new=1.1.3-1 suite=trixie
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" && !n++ {print $2}')
mkdir -p "$work"/lists/partial "$work"/archives/partial "$work"/old "$work"/new
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status" -o "Dir::Cache::Archives=$work/archives"
  -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Acquire::Languages=none)
"${apt[@]}" update
(cd "$work/new" && "${apt[@]}" download "nftables=$new" "libnftables1=$new" libnftnl11 libmnl0 libjansson4 libc6 libedit2 \
  libxtables12 libgmp10 libbsd0 libmd0 libtinfo6)
(cd "$work/old" && apt-get -qq -o APT::Sandbox::User=root download "nftables=$old" "libnftables1=$old" libnftnl11 libmnl0 \
  libjansson4 libc6 libedit2 libxtables12 libgmp10 libbsd0 libmd0 libtinfo6)
for name in old new; do
  for package in "$work/$name"/*.deb; do dpkg-deb -x "$package" "$work/$name"; done
  loader=$(find "$work/$name" -name 'ld-linux-*.so.2' -o -name 'ld-linux-*.so.1' | head -n 1)
  libraries=$(find "$work/$name" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
  printf '#!/bin/sh\nexec %s --library-path %s %s/usr/sbin/nft "$@"\n' "$loader" "$libraries" "$work/$name" >"$work/nft-$name"
  chmod +x "$work/nft-$name"
done
export work

inside() { # in a new network namespace
  local name text
  echo 'table ip t { chain c { type nat hook output priority -100; policy accept; }; }' | "$work/nft-old" -f -
  for name in old new; do
    text=$("$work/nft-$name" list table ip t)
    echo "$name lists $(grep -o 'priority [^;]*' <<<"$text")"
    "$work/nft-old" delete table ip t
    if "$work/nft-old" -f - <<<"$text" 2>/dev/null; then echo "old loads it"; else
      echo "old refuses it"
      "$work/nft-new" -f - <<<"$text"
    fi
  done
}
export -f inside
"$work/nft-old" --version
"$work/nft-new" --version
seen=$(unshare -n bash -euo pipefail -c 'inside')
echo "$seen"
if [[ $seen == "old lists priority -100
old loads it
new lists priority dstnat
old refuses it" ]]; then
  echo "as on 2026-11-30: nft 1.0.6 refuses what nft 1.1.3 lists"
else
  echo "this is not the behaviour that was seen on 2026-11-30 with nftables $old and $new"
  exit 1
fi
