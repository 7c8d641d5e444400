"""A plan as a shell script, which builds the same lab with ip, bridge, sysctl and iptables. Pure.

The script runs as it is, as root, on any machine that has those tools, without labctl (a lab with processes or CNI
attachments needs labctl's own programs, or the plugins). tests/live/report/test_shell_script.py runs it for every
built-in scenario and finds no drift afterwards. labctl has no record of plugins that the script calls, so there the
test uses packets.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from labctl.core.iptables import Backend, FirewallRule
from labctl.core.resources import Chain, Resource
from labctl.core.scenario_types import Lab, Machine
from labctl.render.commands import script, script_steps, with_backend
from labctl.report.text_layout import fold_line

if TYPE_CHECKING:
    from labctl.explanation.planned_reasons import PlannedReasons

COMMENT_WIDTH = 100  # columns of a comment with a reason

_HEAD = """\
#!/bin/sh
# {title}
# The equivalent of `labctl up {up}{option}`. Run it as root; `labctl down {name}` removes the lab.
set -e
in_node() {{ node=$1; shift; ip netns exec "{prefix}$node" "$@"; }}  # a command inside a machine of the lab
"""
# the beginning of a command -> its heading
_HEADINGS = (
    ("ip netns", "the machines: a network namespace for each"),
    (("ip link", "bridge link", "ip -n", "ip tuntap"), "links: each veth pair once, with both ends"),
    ("sysctl", "settings"),
    (("ip addr", "ip -6 addr"), "addresses"),
    (("ip neigh", "ip -6 neigh", "bridge fdb"), "static neighbours and forwarding entries"),
    (("ip route", "ip -6 route", "ip rule", "ip -6 rule"), "routes and the rules that select routing tables"),
    ("ipset", "sets of addresses that rules match"),
    ("nfacct", "objects in which rules count packets"),
    (("iptables", "ip6tables", "ebtables"), "the firewall: chains first, then their rules"),
    ("nft", "the tables of nft, each machine's at once"),
    ("sh -c", "CNI plugins, called as a container runtime calls them"),
    ("python3", "processes in the machines"),
)


def plan_script(
    lab: Lab,
    netns_name: Callable[[str], str],
    state: str,
    up_words: Sequence[str] | None = None,
    reasons: PlannedReasons | None = None,
) -> Iterator[str]:
    """The script's lines. `netns_name` returns the name of a machine's namespace; `state` is the state directory.
    `up_words` are the scenario and the options with which `labctl up` makes the same lab, without --firewall; by
    default the lab's name. With `reasons`, a comment before the commands of an object says why it is there."""
    title = f"{lab.name}, model {lab.model}" + (f": {lab.say}" if lab.say else "")
    prefix, option = netns_name(""), " --firewall nft" if lab.firewall == "nft" else ""
    up = shlex.join([lab.name] if up_words is None else up_words)
    yield from _HEAD.format(title=title, name=lab.name, up=up, option=option, prefix=prefix).splitlines()
    to_shell = partial(_shell_line, lab.firewall)
    if reasons is None:
        yield from with_headings(script(lab.plan, netns_name, state, lab.firewall), lab.machines, to_shell)
        return
    steps = tuple(script_steps(lab.plan, netns_name, state, lab.firewall))
    commands = ((ns, command) for ns, command, _, _ in steps)
    whys = (_reason(item, rule, reasons) for _, _, item, rule in steps)
    yield from with_headings(commands, lab.machines, to_shell, whys)


def _reason(item: Resource | None, rule: FirewallRule | None, reasons: PlannedReasons) -> str:
    if item is None:
        return ""
    if isinstance(item, Chain):
        return reasons.of_chain(item) if rule is None else reasons.of_rule(item, rule)
    return reasons.of(item)


def with_headings(
    commands: Iterable[tuple[str | None, str]],
    machines: Iterable[Machine],
    to_shell: Callable[[str | None, str], str],
    reasons: Iterator[str] | None = None,
) -> Iterator[str]:
    """Commands as `to_shell` writes them, with a heading for each kind and a comment before each machine's commands.
    `reasons` are those of the commands: each is a comment where it begins."""
    descriptions = {machine.name: _machine_text(machine) for machine in machines}
    heading, current_ns, reason = "", None, ""
    for ns, command in commands:
        next_heading = _heading(command)
        if next_heading != heading:
            yield from ("", f"# ---- {next_heading}")
            heading, current_ns = next_heading, None
        if ns is not None and ns != current_ns:
            yield f"# {ns}{descriptions.pop(ns, '')}"  # its description is printed once
            current_ns, reason = ns, ""
        if reasons is not None and (following := next(reasons)) != reason:
            reason = following
            yield from (f"#   {line}" for line in fold_line(reason, COMMENT_WIDTH) if reason)
        yield to_shell(ns, command)


def _shell_line(firewall: Backend, ns: str | None, command: str) -> str:
    command = with_backend(command, firewall).replace("python3 -m", '"${LABCTL_PYTHON:-python3}" -m', 1)
    return command if ns is None else f"in_node {ns} {command}"


def _heading(command: str) -> str:
    return next((title for begin, title in _HEADINGS if command.startswith(begin)), "the rest")


def _machine_text(machine: Machine) -> str:
    addresses = f" with {', '.join(map(str, machine.addresses))}" if machine.addresses else ""
    return f": the {machine.role}{addresses}" + (f", on {machine.on}" if machine.on else "")
