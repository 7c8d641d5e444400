"""Compare the rules of labctl's kube-proxy model with those that real kube-proxies wrote.

DIR has, for each case, VERSION/MODE/CASE.json and CASE.txt. The JSON document has `config` (a KubeProxyConfiguration),
`node_setup` (the commands that added the node's addresses), `observed` (sysctls), and in one version `items`, the API
objects. CASE.txt has the output of iptables-save and of ip6tables-save, each after a line that begins with ###, or in
mode nftables that of `nft list ruleset`. CASE.step1 is what CASE becomes after a change.

For each case, a line says whether both are equal; below a difference, `-` is a rule that only the real kube-proxy
wrote, and `+` one that only the model writes. The order of Services does not count: kube-proxy changes it itself. Nor
do chains of deleted Services that kube-proxy has emptied: it deletes them in a later transaction.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.kube_proxy_cases import Case

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
MODES = ("iptables", "nftables")  # that have a model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder of the cases")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only the cases that differ, and the count")
    parser.add_argument("--save", metavar="FOLDER", type=Path, help="also write the real rules there, for the tests")
    options = parser.parse_args()
    from tests.support.kube_proxy_cases import cases
    from tests.support.kube_proxy_saved import save

    counts = dict.fromkeys(("equal", "different", "not compared"), 0)
    for case in cases(options.folder):
        verdict, lines = judge(case)
        counts[verdict] += 1
        if verdict == "different" or not options.quiet:
            print(f"{case}: {verdict}", *lines, sep="\n    ")
    if options.save is not None:
        save([case for case in cases(options.folder) if case.mode in MODES], options.save)
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    return 0 if counts["equal"] and not counts["different"] else 1


def judge(case: Case) -> tuple[str, list[str]]:
    """Whether the model writes the same as the real kube-proxy, and the lines that differ."""
    if case.mode not in MODES:
        return "not compared", [f"there is no model of the mode {case.mode}"]
    if case.items is None:
        return "different", ["no version of this case has the API objects (`items`)"]
    try:
        lines = list(case.differences())
    except (KeyError, TypeError, ValueError) as error:
        return "different", [f"{type(error).__name__}: {error}"]
    return ("different" if lines else "equal"), lines


if __name__ == "__main__":
    sys.exit(main())
