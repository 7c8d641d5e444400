"""Hold the rules of policy engines against packets.

On each model, a lab with the nine pods of Kubernetes' tests gets one set of policies after the other, without being
built again: those of Kubernetes' truth tables, and policies of the kinds that cyclonus generates. For each, all pairs
of pods connect to two ports, and what they meet has to be what the semantics of the policies say. A line for each set,
then a count for each model; the exit code is 0 only if all are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
MODELS = ("kubenet", "azure-cni-transparent", "calico", "flannel", "eks-vpc-cni")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth set of policies (default 1)")
    parser.add_argument("--tables", action="store_true", help="only the truth tables of Kubernetes")
    parser.add_argument("--engine", metavar="NAME", help="policy_engine of all labs (default: the one of the model)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options)
    from tests.support.sandbox_script import SANDBOX

    failed = 0
    for model in options.models or MODELS:
        words = [sys.executable, __file__, "--inside", model, "--every", str(options.every)]
        words += ["--tables"] if options.tables else []
        words += ["--engine", options.engine] if options.engine else []
        sandbox = ["unshare", "-nm", "--propagation", "private", "sh", "-ec", SANDBOX, "sandbox", *words]
        environment = {**os.environ, "LABCTL_SANDBOX": "1"}
        failed |= subprocess.run(sandbox, check=False, env=environment).returncode
    return 1 if failed else 0


def inside(options: argparse.Namespace) -> int:
    """Try one model. Runs in a sandbox."""
    from labctl.lab import lifecycle
    from tests.support import generated_policies, policy_live
    from tests.support.policy_cases import CASES, PolicyCase
    from tests.support.policy_labs import bare_lab, placed, policy_lab

    (model,) = options.models
    bare = bare_lab(model)[0]
    cases = list(
        {json.dumps([one.specs, dict(one.labels)], sort_keys=True): placed(one, bare) for one in CASES}.values()
    )
    if not options.tables:
        one = policy_lab(model, ())
        for direction in ("Ingress", "Egress"):
            for number, policy in enumerate(generated_policies.policies(one, direction), 1):
                cases.append(PolicyCase(f"{direction} {number}", (dict(generated_policies.spec(policy)),), ()))
    begun, wrong, name = time.monotonic(), 0, ""
    for case in cases[:: options.every]:
        ports = generated_policies.named_containers() if not case.denied and case.name[-1].isdigit() else None
        lab = policy_live.build(model, case, ports, options.engine)
        name = lab.name
        kinds = {case.protocol} - {"SCTP"} | {"TCP"}
        problems = [
            text for kind in sorted(kinds) for port in (80, 81) for text in policy_live.not_enforced(lab, kind, port)
        ]
        wrong += bool(problems)
        print(f"{model}: {case.name}: {'not equal' if problems else 'equal'}", *problems[:5], sep="\n    ", flush=True)
    lifecycle.down(name)
    count = len(cases[:: options.every])
    print(f"{model}: {count - wrong} of {count} sets of policies are enforced, in {time.monotonic() - begun:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
