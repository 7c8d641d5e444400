"""Why the objects exist that Felix has in nftables only. Pure data; `calico_nftables` writes them.

The chains and rules that Felix writes with both firewalls have the reasons of `calico_reasons`.
"""

from __future__ import annotations

from labctl.core.why import Component, Source, Why
from labctl.models.lib.calico_reasons import PROJECT, VERSION

NAME = "Felix (calico-node)"
TABLES = Component(NAME, Source(PROJECT, "felix/nftables/table.go", VERSION))
MAPS = Component(NAME, Source(PROJECT, "felix/nftables/maps.go", VERSION))
DISPATCH = Component(NAME, Source(PROJECT, "felix/rules/dispatch.go", VERSION))

TABLE = TABLES.why(
    "Everything that Felix writes is in this table: its chains have the names of iptables' tables before their own."
)
BASE = TABLES.why(
    "The kernel calls it, and it calls Felix's chains. Felix makes one for each hook of iptables' tables."
)
DISPATCH_MAP = MAPS.why(
    "It leads from the device of a pod to the chain of the pod, in one step for any number of pods. A new pod is an"
    " element, and no rule changes."
)
LOOKUP = DISPATCH.why("The device of the packet is looked up in the map: the packet goes on in the chain of that pod.")
POLICY_PART = Component(NAME, Source(PROJECT, "felix/rules/policy.go", VERSION)).why(
    "It is a part of a rule that Felix splits, with nft as with iptables: a bit notes whether this part fits."
)
JUMP = TABLES.why(
    "Felix's rules are in {target}. Other programs have their own chains at this hook: what Felix drops is lost for"
    " all of them, what it accepts is not final."
)
# reasons of rules of iptables that are not right for the same rules in nft, by a part of their sentence
_OTHERWISE = {
    "that one rule of iptables cannot say": POLICY_PART,
    "Felix keeps this jump before the rules of other programs": JUMP,
}


def in_nftables(why: Why | None) -> Why | None:
    """A reason of a rule of iptables, for the same rule of nft."""
    if why is None:
        return None
    return next((other for part, other in _OTHERWISE.items() if part in why.sentence), why)
