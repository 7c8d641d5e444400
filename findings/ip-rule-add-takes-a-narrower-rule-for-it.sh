#!/usr/bin/env bash
# `ip rule add pref 5 lookup 100` fails with "File exists" if there is a rule `from 10.0.0.0/8` with the same preference
# and table: the kernel compares `from` and `to` only if the new rule has them (fib4_rule_compare in
# net/ipv4/fib_rules.c). In the other order both rules are added. So a program that adds a missing rule again, between
# others, may not be able to. `not` does not count either: the rule and its opposite are one (rule_exists in
# net/core/fib_rules.c).
#
# Run it as root on Debian 12: it unpacks a pinned iproute2 in a temporary folder, and works in network namespaces that
# end with it.
set -euo pipefail
version=6.1.0-3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq -o APT::Sandbox::User=root download "iproute2=$version" libbpf1 libelf1 libmnl0 libcap2 libtirpc3 libbsd0 libmd0
for package in ./*.deb; do dpkg-deb -x "$package" root; done
libraries=$(dirname "$(find "$work/root" -name 'libbpf.so.1' | head -n 1)"):$(dirname "$(find "$work/root" -name 'libmnl.so.0' | head -n 1)")
export work LD_LIBRARY_PATH=$libraries
ip=$(find "$work/root" -path '*bin/ip' -type f | head -n 1)
export ip
"$ip" -V
uname -r

# try EXPECTED RULE...: add the rules in a new network namespace; EXPECTED is what ip says of the last one
try() {
  local expected=$1 said
  shift
  # shellcheck disable=SC2016
  said=$(unshare -n bash -c 'for rule in "$@"; do "$ip" rule add $rule 2>&1; done' try "$@")
  printf '%s  =>  %s\n' "$(printf '[%s] ' "$@")" "${said:-added}"
  [[ $said == "$expected" ]]
}
exists="RTNETLINK answers: File exists"
failed=0
try "$exists" "from 10.0.0.0/8 pref 5 lookup 100" "pref 5 lookup 100" || failed=1
try "" "pref 5 lookup 100" "from 10.0.0.0/8 pref 5 lookup 100" || failed=1
try "$exists" "from 10.0.0.0/8 to 192.0.2.0/24 pref 5 lookup 100" "to 192.0.2.0/24 pref 5 lookup 100" || failed=1
try "$exists" "from 10.0.0.0/8 pref 5 lookup 100" "not from 10.0.0.0/8 pref 5 lookup 100" || failed=1
exit "$failed"
