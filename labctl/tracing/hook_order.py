"""The order of all chains that a packet met in a namespace, where legacy iptables and nft both have some. Pure.

The kernel reports the rules of each in their order, but in two streams without common times. The hooks and priorities
of their chains decide: a packet passes the hooks in a fixed order, and at a hook the lower priority is first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labctl.core.iptables import CHAIN_TOOLS
from labctl.core.netfilter_hooks import LEGACY_PRIORITIES, SOURCE_NAT
from labctl.tracing.evidence import RuleHit
from labctl.tracing.result import Note

HOOK_NAMES = ("prerouting", "input", "forward", "output", "postrouting")
HOOKS = len(HOOK_NAMES)
SOURCE_HOOKS = (1, 4)  # where nat translates sources
Passed = tuple[RuleHit, int]  # a rule, and the packet's TTL when it met it


def priority(hit: RuleHit) -> int:
    """The priority of the chain by which the packet came to a rule."""
    if hit.nft is not None:
        return hit.nft.priority
    if hit.table == "nat" and hit.hook in SOURCE_HOOKS:
        return SOURCE_NAT
    return LEGACY_PRIORITIES.get(hit.table, 0)


def merged(legacy: Iterable[Passed], native: Iterable[Passed]) -> list[RuleHit]:
    """The rules of both in the order in which each packet met them, packet after packet."""
    streams = list(legacy), list(native)
    if not streams[0] or not streams[1]:
        return [hit for hit, _ in (*streams[0], *streams[1])]
    packets = dict.fromkeys((hit.role, hit.neighbour) for stream in streams for hit, _ in stream)
    order = sorted(packets, key=lambda one: one[0] != "request")
    found: list[RuleHit] = []
    for packet in order:
        found += _merged(*([one for one in stream if (one[0].role, one[0].neighbour) == packet] for stream in streams))
    return found


def _merged(legacy: list[Passed], native: list[Passed]) -> list[RuleHit]:
    found: list[RuleHit] = []
    last, ttl = 0, 256
    while legacy or native:
        first, other = legacy[:1], native[:1]
        if not first or not other:
            chosen = legacy if first else native
        elif other[0][0].family in ("bridge", "netdev"):
            chosen = native  # these hooks are not among those of legacy tables
        else:
            ranks = [_rank(one[0], last, ttl) for one in (first, other)]
            chosen = legacy if ranks[0] < ranks[1] else native
        hit, ttl = chosen.pop(0)
        last = hit.hook
        found.append(hit)
    return found


def _rank(one: Passed, last: int, ttl: int) -> tuple[int, int, int]:
    """How soon after the hook `last` a packet meets a rule: it can come round again, with a lower TTL than then."""
    hit, now = one
    return -now, (hit.hook - (last if now >= ttl else 0)) % HOOKS, priority(hit)


def leading_rules(hits: Sequence[RuleHit], ended: RuleHit) -> list[RuleHit]:
    """The rules by which elements of maps led the packet to the chain where a rule ended its way, in order."""
    at = next((number for number, hit in enumerate(hits) if hit is ended), 0)
    found: list[RuleHit] = []
    chain = ended.chain
    for hit in reversed(hits[:at]):
        if hit.nft is not None and hit.base == ended.base and hit.role == ended.role and hit.target == chain:
            found += [hit] if hit.nft.element else []
            chain = hit.chain
    return found[::-1]


def hooks_note(hits: Sequence[RuleHit], ended: RuleHit) -> list[Note]:
    """The base chains that the packet met at the hook where a rule ended its way, in the order of the kernel; nothing
    if that is the only one."""
    same = [hit for hit in hits if _place(hit) == _place(ended)]
    passed = _outcomes(same[: next((at for at, hit in enumerate(same) if hit is ended), len(same)) + 1])
    if len(passed) < 2:
        return []
    hook = next(hit.nft.hook for hit in same if hit.nft is not None) if any(hit.nft for hit in same) else ""
    return [Note("hooks", f"{ended.node}: {hook}: {', '.join(passed)}")]


def visit_note(hits: Sequence[RuleHit]) -> list[Note]:
    """All base chains that a packet met during one visit, hook by hook; nothing if none is of an nft table."""
    if not any(hit.nft is not None for hit in hits):
        return []
    hooks: list[tuple[str, list[RuleHit]]] = []
    for hit in hits:
        name = _hook_name(hit)
        if not hooks or hooks[-1][0] != name:
            hooks.append((name, []))
        hooks[-1][1].append(hit)
    texts = dict.fromkeys(f"{name}: {', '.join(_outcomes(some))}" for name, some in hooks)
    return [Note("hooks", "; ".join(texts))]


def _hook_name(hit: RuleHit) -> str:
    return hit.nft.hook if hit.nft is not None else HOOK_NAMES[hit.hook]


def _place(hit: RuleHit) -> tuple[object, ...]:
    bridged = hit.family in ("bridge", "netdev")
    return hit.node, hit.role, hit.neighbour, hit.hook, bridged


def _outcomes(hits: Iterable[RuleHit]) -> list[str]:
    """Each base chain with its priority and its verdict."""
    found: list[tuple[tuple[str, ...], RuleHit]] = []
    for hit in hits:
        if not found or found[-1][0] != hit.base:
            found.append((hit.base, hit))
        found[-1] = (hit.base, hit)
    return [f"{_base_name(hit)} ({priority(hit)}) {_outcome(hit)}" for _, hit in found]


def _base_name(hit: RuleHit) -> str:
    if hit.nft is not None:
        return f"{hit.family} {hit.table}/{hit.nft.base}"
    return f"{CHAIN_TOOLS.get(hit.family, hit.family)} {hit.table}/{HOOK_NAMES[hit.hook].upper()}"


def _outcome(hit: RuleHit) -> str:
    return f"policy {hit.target.lower()}" if hit.kind == "policy" else hit.target.lower() or "continue"


def is_undone(accepted: RuleHit, dropped: RuleHit) -> bool:
    """Whether a rule accepted the packet in one base chain, and another base chain of the same hook dropped it."""
    if accepted.target != "ACCEPT" or accepted.kind != "rule" or accepted.hook != dropped.hook:
        return False
    if accepted.purpose in ("nat", "raw") or (accepted.node, accepted.role) != (dropped.node, dropped.role):
        return False
    return accepted.base != dropped.base


def undone_accept(hits: Sequence[RuleHit], dropped: RuleHit) -> RuleHit | None:
    """The last rule before a drop that accepted the packet at the same hook in another base chain, if one of the two is
    of an nft table."""
    at = next((number for number, hit in enumerate(hits) if hit is dropped), 0)
    for hit in reversed(hits[:at]):
        if is_undone(hit, dropped) and (hit.nft is not None or dropped.nft is not None):
            return hit
    return None
