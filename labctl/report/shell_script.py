"""A plan as a shell script: the same lab by hand, in the words of ip, bridge, sysctl and iptables. Pure.

The script runs as it is, as root, on any machine that has those tools, without labctl (a lab with processes or CNI
attachments needs labctl's own programs, or the plugins). tests/test_commands.py runs it for every built-in scenario
and finds no drift afterwards; of what plugins made by hand labctl keeps no record, and the packets tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from labctl.core.iptables import Backend
from labctl.core.scenario_types import Lab, Machine
from labctl.render.commands import script, variant

_HEAD = """\
#!/bin/sh
# {title}
# The same as `labctl up {name}{option}`, by hand. Run it as root; `labctl down {name}` takes it down again.
set -e
in_node() {{ node=$1; shift; ip netns exec "{prefix}$node" "$@"; }}  # a command inside a machine of the lab
"""
# what a command begins with -> the heading that it stands under
_PARTS = (
    ("ip netns", "the machines: a network namespace each"),
    (("ip link", "bridge link", "ip -n", "ip tuntap"), "links: each cable once, with both its ends"),
    ("sysctl", "settings"),
    (("ip addr", "ip -6 addr"), "addresses"),
    (("ip neigh", "ip -6 neigh", "bridge fdb"), "neighbours and forwarding entries that nobody has to learn"),
    (("ip route", "ip -6 route", "ip rule", "ip -6 rule"), "routes and the rules that choose among them"),
    ("ipset", "sets of addresses that rules match"),
    (("iptables", "ip6tables", "ebtables"), "the firewall: chains first, then what is in them"),
    ("sh -c", "what CNI plugins do, called as a container runtime calls them"),
    ("python3", "what runs in it"),
)


def plan_script(lab: Lab, place: Callable[[str], str], state: str) -> Iterator[str]:
    """The script's lines; `place` gives the name of a machine's namespace, `state` the folder of labs' files."""
    title = f"{lab.name}, model {lab.model}" + (f": {lab.say}" if lab.say else "")
    prefix, option = place(""), " --firewall nft" if lab.firewall == "nft" else ""
    yield from _HEAD.format(title=title, name=lab.name, option=option, prefix=prefix).splitlines()
    commands = script(lab.plan, place, state, lab.firewall)
    yield from commented(commands, lab.machines, partial(_typed, lab.firewall))


def commented(
    commands: Iterable[tuple[str | None, str]],
    machines: Iterable[Machine],
    typed: Callable[[str | None, str], str],
) -> Iterator[str]:
    """Commands as they are typed, with a heading for each kind and a line where another machine begins."""
    who = {machine.name: _about(machine) for machine in machines}
    heading, here = "", None
    for ns, command in commands:
        now = _heading(command)
        if now != heading:
            yield from ("", f"# ---- {now}")
            heading, here = now, None
        if ns is not None and ns != here:
            yield f"# {ns}{who.pop(ns, '')}"  # who it is is said once
            here = ns
        yield typed(ns, command)


def _typed(firewall: Backend, ns: str | None, command: str) -> str:
    command = variant(command, firewall).replace("python3 -m", '"${LABCTL_PYTHON:-python3}" -m', 1)
    return command if ns is None else f"in_node {ns} {command}"


def _heading(command: str) -> str:
    return next((title for begin, title in _PARTS if command.startswith(begin)), "the rest")


def _about(machine: Machine) -> str:
    addresses = f" with {', '.join(map(str, machine.addresses))}" if machine.addresses else ""
    return f": the {machine.role}{addresses}" + (f", on {machine.on}" if machine.on else "")
