"""labctl policy: which pods reach which, and which policy decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labctl.cli.failure import has_json_flag
from labctl.cli.options import global_options, manifests_option, print_warnings, sets_option
from labctl.cli.param_types import POLICY_END, POLICY_FILTER, SCENARIO, NumberParam
from labctl.cli.session import Session
from labctl.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

    from labctl.core.scenario_types import Lab
    from labctl.kubernetes.api.api_objects import Protocol
    from labctl.kubernetes.policies.policy_matrix import PolicyMatrix

PORT = NumberParam(1, 65535)
PROTOCOLS: dict[str, Protocol] = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}


class PolicyGroup(click.Group):
    """The group of the two verbs, with a suggestion for a mistyped one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            from labctl.core.names import did_you_mean

            known = tuple(self.commands)
            ctx.obj.json = ctx.obj.json or has_json_flag(args)
            hint = did_you_mean(args[0], known, 0.5, lambda verb: f"`labctl policy {verb}`")
            raise UsageError(
                f"policy: there is no {args[0]!r}", hint or f"labctl policy {' or labctl policy '.join(known)}"
            )
        return super().resolve_command(ctx, args)


def definition_options(function: Any) -> Any:
    """--scenario, --manifest and --set: a lab that need not run."""
    option = click.option(
        "--scenario", type=SCENARIO, metavar="FILE", help="Ask about this scenario; no lab has to run."
    )
    return option(manifests_option(sets_option(function)))


@click.group(
    "policy",
    cls=PolicyGroup,
    no_args_is_help=False,
    short_help="Show which pods reach which under policies, and why.",
)
@global_options("lab", "json")
@click.pass_context
def policy(ctx: click.Context) -> None:
    """Ask the NetworkPolicies and ClusterNetworkPolicies of a lab.

    The answers come from the policies' own semantics, as the API documents them, and need no root. `matrix --live`
    holds them against real packets.

    \b
    Examples:
      labctl policy matrix --port 80
      sudo labctl policy matrix --port 80 --live
      labctl policy why a b --tcp 80
    """


@policy.command("matrix", short_help="Show which pods reach which on one port, as a table.")
@click.option("--port", type=PORT, default=80, metavar="PORT", show_default=True, help="The port of the pods.")
@click.option(
    "--protocol", type=click.Choice(list(PROTOCOLS)), default="tcp", show_default=True, help="The protocol of the port."
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    type=POLICY_FILTER,
    metavar="WHO",
    help="Only these sources: a namespace, a pod, or a label KEY=VALUE. Can be repeated.",
)
@click.option(
    "--to",
    "targets",
    multiple=True,
    type=POLICY_FILTER,
    metavar="WHO",
    help="Only these targets, chosen as for --from.",
)
@click.option("--live", is_flag=True, help="Measure each pair with packets, and show each difference. Needs root.")
@definition_options
@global_options("lab", "json")
@click.pass_obj
def matrix(
    session: Session,
    port: int,
    protocol: str,
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    live: bool,
    scenario: str | None,
    manifests: tuple[str, ...],
    sets: tuple[str, ...],
) -> int:
    """Show which pods reach which on one port: pods as sources in rows, pods as targets in columns.

    The verdicts are those of the policies. With --live, labctl opens the port in every target (a program that listens
    there answers itself) and connects from every source; a pair that does not do what the policies say is listed. Exits
    1 if there is one, or if a pair could not be measured.

    The port is that of the pod: behind a Service, its targetPort.

    \b
    Examples:
      labctl policy matrix --port 80
      sudo labctl policy matrix --port 80 --live
      labctl policy matrix --port 53 --protocol udp --from x --to app=dns
      labctl policy matrix --scenario kubenet --manifest policies.yaml --json
    """
    from labctl.kubernetes.policies.policy_matrix import policy_matrix

    if live and scenario is not None:
        raise UsageError(
            "--live and --scenario cannot be used together", "--live needs a running lab; start it with `up`"
        )
    if live:
        session.require_root()
        session.handle_termination()
    lab = _lab(session, scenario, manifests, sets)
    found = policy_matrix(lab.kubernetes, PROTOCOLS[protocol], port, sources, targets)
    if live:
        found = _measured(session, lab, found)
    if session.json:
        from labctl.report.policy_json import matrix_document

        session.print_document(matrix_document(lab.name, found))
    else:
        from labctl.report.policy_matrix import lines

        terminal = session.terminal
        terminal.lines(lines(found, terminal.paint, terminal.width), fold=4)
    return 1 if found.differences or found.unmeasured else 0


def _measured(session: Session, lab: Lab, matrix: PolicyMatrix) -> PolicyMatrix:
    from labctl.checks.policy_pairs import measure

    session.terminal.progress(f"connecting {len(list(matrix))} pairs")
    try:
        return measure(lab, matrix)
    finally:
        session.terminal.clear()


@policy.command("why", short_help="Say why a connection is allowed or denied.")
@click.argument("source", metavar="SRC", type=POLICY_END)
@click.argument("target", metavar="DST", type=POLICY_END)
@click.option("--tcp", metavar="PORT", type=PORT, help="A TCP connection to this port.")
@click.option("--udp", metavar="PORT", type=PORT, help="A UDP datagram to this port.")
@click.option("--sctp", metavar="PORT", type=PORT, help="An SCTP association to this port.")
@click.option("--icmp", is_flag=True, help="A ping, which has no port.")
@definition_options
@global_options("lab", "json", "verbose", verbose="Show every rule that does not fit, not only the nearest.")
@click.pass_obj
def why(
    session: Session,
    /,
    source: str,
    target: str,
    scenario: str | None,
    manifests: tuple[str, ...],
    sets: tuple[str, ...],
    **options: Any,
) -> int:
    """Say why a connection is allowed or denied: at its source (egress) and at its target (ingress), which policies
    select the pod, which rule decides, which rules nearly fit, and what would allow it.

    SRC and DST are pods of the lab (a, x/a), other machines (internet), or addresses. DST can be a Service (web, x/web,
    service/x/web): then each of its backends is explained, at its own port. Exits 0 also if the connection is denied.

    \b
    Examples:
      labctl policy why a b --tcp 80
      labctl policy why x/client service/x/web --tcp 80
      labctl policy why internet a --udp 53 --json
      labctl policy why a b --tcp 80 --scenario network-policy
    """
    from labctl.kubernetes.policies.policy_question import answer

    given = [name for name in (*PROTOCOLS, "icmp") if options[name]]
    if len(given) != 1:
        what = "names no port" if not given else f"has --{given[0]} and --{given[1]}"
        raise UsageError(f"policy why: the question {what}", "such as: labctl policy why a b --tcp 80")
    lab = _lab(session, scenario, manifests, sets)
    port = 0 if options["icmp"] else int(options[given[0]])
    found = answer(lab, lab.kubernetes, source, target, PROTOCOLS.get(given[0], "ICMP"), port)
    if session.json:
        from labctl.report.policy_json import why_document

        session.print_document(why_document(lab.name, found))
    else:
        from labctl.report.policy_why import lines

        session.terminal.lines(lines(found, session.terminal.paint, verbose=session.verbose), fold=6)
    return 0


def _lab(session: Session, scenario: str | None, manifests: tuple[str, ...], sets: tuple[str, ...]) -> Lab:
    """The lab of the question: the scenario that is named, else a running lab. Raises UsageError."""
    import labctl
    from labctl.lab import lifecycle

    if scenario is not None:
        lab = labctl.load(scenario, name=session.lab, set=sets, manifests=manifests).compiled
        print_warnings(session, lab)
    elif sets or manifests:
        option, what = ("--set", "values") if sets else ("--manifest", "manifests")
        raise UsageError(f"{option} needs --scenario FILE", f"the record of a running lab has its {what}")
    else:
        lab = lifecycle.load_compiled_lab(lifecycle.resolve_lab_name(session.lab))
    return _with_cluster(lab)


def _with_cluster(lab: Lab) -> Lab:
    """The lab with its cluster; one without API objects has only its pods, and no policy. Raises UsageError for a lab
    without pods."""
    from dataclasses import replace

    from labctl.kubernetes.api.cluster_state import ClusterState
    from labctl.kubernetes.api.policy_objects import Pod

    found = [one for one in lab.machines if one.role == "pod"]
    if not found:
        raise UsageError(f"lab {lab.name} has no pods", "policies are about the pods of a Kubernetes model")
    if lab.kubernetes is not None:
        return lab
    pods = (Pod("default", one.name, one.addresses, node=one.on or "", machine=one.name) for one in found)
    return replace(lab, kubernetes=ClusterState(pods=tuple(pods)))


COMMAND = policy
