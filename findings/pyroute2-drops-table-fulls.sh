#!/usr/bin/env bash
# pyroute2 0.9.7 decodes the statistics of the kernel's neighbour tables (RTM_GETNEIGHTBL, NDTA_STATS) without their last
# number, table_fulls, which the kernel sends since Linux 4.3: how often the table had no room. `ip -s ntable` of
# iproute2 prints it. All other numbers are right, and nothing says that one is missing.
#
# Run it as any user on a machine with iproute2, Python and pip: it installs the pinned package in a temporary folder.
# It only reads, so it needs no root and no namespace.
set -euo pipefail
version=0.9.7
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "pyroute2==$version"

shown=$(ip -s ntable show name arp_cache)
if [[ ! $shown =~ table_fulls\ [0-9]+ ]]; then
  echo "this iproute2 or this kernel does not show table_fulls"
  exit 1
fi
echo "iproute2: ${BASH_REMATCH[0]}"
"$work/venv/bin/python" - <<'PYTHON'
import sys

from pyroute2 import IPRoute

with IPRoute() as route:
    tables = list(route.get_ntables())
found = [stats for stats in (table.get_attr("NDTA_STATS") for table in tables) if stats is not None]
names = [name for name in found[0] if name not in ("header", "attrs")]
print(f"pyroute2: {len(found)} tables, each with: {' '.join(names)}")
sys.exit("table_fulls" in names or names[-1] != "forced_gc_runs")
PYTHON
echo "as on 2026-11-29 with pyroute2 $version: the last number, table_fulls, is missing"
