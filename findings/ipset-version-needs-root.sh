#!/usr/bin/env bash
# ipset 7.17 prints its version for every user, but fails with exit code 1 for a user without root: it also asks the
# kernel for its protocol version. So `ipset -v` does not tell whether ipset is installed; `command -v ipset` does.
#
# Run it as root on Debian 12: it unpacks the pinned packages in a temporary folder and runs them as root and as nobody.
set -euo pipefail
version=7.17-1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
apt-get -qq download "ipset=$version" "libipset13=$version"
for package in ./*.deb; do dpkg -x "$package" root; done
program=$(find "$work/root" -path '*sbin/ipset' | head -n 1)
libraries=$(dirname "$(find "$work/root" -name 'libipset.so.13' | head -n 1)")

# ask USER: the exit code and the output of `ipset -v` as this user
ask() {
  local code=0
  setpriv --reuid="$1" --regid="$1" --clear-groups env LD_LIBRARY_PATH="$libraries" "$program" -v >"$work/out" 2>&1 ||
    code=$?
  printf 'as user %s: exit code %d\n' "$1" "$code"
  sed 's/^/    /' "$work/out"
  return "$code"
}

failed=0
ask 0 || failed=1
if ask 65534; then failed=1; fi
grep -q '^ipset v7.17, protocol version' "$work/out" || failed=1
grep -q 'Operation not permitted' "$work/out" || failed=1
if ((failed)); then
  echo "this is not the behaviour that was seen on 2026-11-29"
  exit 1
fi
echo "as on 2026-11-29: the version is printed to both, and only root gets exit code 0"
