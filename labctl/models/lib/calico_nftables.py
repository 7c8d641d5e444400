"""Felix's firewall in nftables: what Felix writes with `nftablesMode: Enabled`. Pure.

    iptables                                   nftables
    raw, mangle, nat, filter                   one table: ip calico
      cali-FORWARD                               chain filter-cali-FORWARD
      FORWARD: -j cali-FORWARD                   chain filter-FORWARD { type filter hook forward priority filter }
      a tree of chains finds the pod             iifname vmap @filter-cali-from-wl-dispatch
      IP set cali40s:HASH                        set cali40s-HASH

Felix has one renderer for both: the same chains of the same rules, and only the words of matches and actions differ. So
has labctl: `calico_felix` writes the rules, and this module says them in nft's words. Two things are not a matter of
words. The device of a packet is looked up in a verdict map, which leads to the chain of the pod; so a new pod is one
element, and no rule changes. And an accept is final only for this table: rules of others at the same hook still decide.

Follows projectcalico/calico 3.31: felix/nftables/table.go (base chains), table_layer.go (names), renderer.go
(comments), match_builder.go, actions.go, ipsets.go, maps.go; felix/rules/dispatch.go (the verdict maps).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha224

from labctl.core import nft_objects
from labctl.core.iptables import BUILTIN, FirewallRule
from labctl.core.iptables_parts import RuleOption, RulePart
from labctl.core.resources import Chain, IpSet, NftObject, Resource
from labctl.core.why import Reason, RuleReasons, Why, reason_of, reason_of_rule
from labctl.models.lib import calico_nftables_reasons
from labctl.models.lib.calico_rule_hash import APPEND_SUFFIX, HASH_LENGTH

TABLE = "ip calico"
# in iptables, Felix's names have 28 letters. Felix takes 256, which is too much: it writes `filter-` before a name
MAX_CHAIN_NAME = 248
MAX_COMMENT = 128
# the chains that the kernel calls: Felix makes all of them, with these types and priorities as nft prints them
_BASE_CHAINS = {
    ("filter", "INPUT"): ("filter", "filter"), ("filter", "FORWARD"): ("filter", "filter"),
    ("filter", "OUTPUT"): ("filter", "filter"),
    ("nat", "PREROUTING"): ("nat", "dstnat"), ("nat", "INPUT"): ("nat", "-100"), ("nat", "OUTPUT"): ("nat", "100"),
    ("nat", "POSTROUTING"): ("nat", "srcnat"),
    ("mangle", "PREROUTING"): ("filter", "mangle"), ("mangle", "INPUT"): ("filter", "mangle"),
    ("mangle", "FORWARD"): ("filter", "mangle"), ("mangle", "OUTPUT"): ("route", "mangle"),
    ("mangle", "POSTROUTING"): ("filter", "mangle"),
    ("raw", "PREROUTING"): ("filter", "raw"), ("raw", "OUTPUT"): ("filter", "raw"),
}  # fmt: skip
_DISPATCH = {"cali-from-wl-dispatch": "iifname", "cali-to-wl-dispatch": "oifname"}
_PROTOCOLS = {"udp": 17, "ipencap": 4}  # that Felix gives by number, where the rule is not a policy's
_BLOCK_BITS = 0xC0000  # Felix sets these two bits of the mark together, and writes so where it clears both
_SET_TYPES = {
    "hash:net": ("ipv4_addr", ("flags interval",)),
    "hash:ip": ("ipv4_addr", ()),
    "hash:ip,port": ("ipv4_addr . inet_proto . inet_service", ()),
}


def is_felix(item: Resource) -> bool:
    """Whether Felix made this chain or set of iptables, or a rule of this built-in chain."""
    if isinstance(item, IpSet):
        return item.name.startswith("cali40")
    if not isinstance(item, Chain) or item.family != "ip":
        return False
    return item.name.startswith("cali-") or any(map(is_felix_rule, item.rules))


def is_felix_rule(rule: FirewallRule) -> bool:
    """Whether a rule has the comment by which Felix knows its own."""
    return any(word.startswith("cali:") for word in rule.args)


def in_nftables(node: str, items: Iterable[Resource]) -> Iterator[NftObject]:
    """Felix's chains and sets of one node in nftables. Of built-in chains, only Felix's own rules are looked at.

    Raises ValueError for a match or target that Felix does not write.
    """
    items = tuple(items)
    chains = {(one.table, one.name): one for one in items if isinstance(one, Chain)}
    yield nft_objects.table(node, TABLE, why=calico_nftables_reasons.TABLE)
    for one in items:
        if isinstance(one, IpSet):
            kind, settings = _SET_TYPES[one.kind]
            elements = map(_element, one.members)
            yield nft_objects.set_(node, TABLE, set_name(one.name), elements, type=kind, settings=settings, why=one.why)
    yield from _dispatch_maps(node, chains)
    for (layer, hook), (kind, priority) in _BASE_CHAINS.items():
        chain = chains.get((layer, hook), Chain(node, layer, hook))
        rules = [one for one in chain.rules if is_felix_rule(one)]
        first = sum(one.target is not None and one.target.startswith("cali-") for one in rules)
        name = f"{layer}-{hook}"
        written = _Writer(layer, name)
        entries = [*map(written.entry, rules[:first])]
        written = _Writer(layer, name + APPEND_SUFFIX)
        entries += map(written.entry, rules[first:])
        why = calico_nftables_reasons.BASE
        made = nft_objects.base_chain(
            node, TABLE, name, entries, type=kind, hook=hook.lower(), priority=priority, why=why
        )
        yield _with_reasons(made, Chain(node, layer, hook, tuple(rules), rule_whys=chain.rule_whys))
    for (layer, name), chain in chains.items():
        if name in BUILTIN.get(("ip", layer), ()) or any(name.startswith(f"{one}-") for one in _DISPATCH):
            continue
        written = _Writer(layer, f"{layer}-{name}")
        if name in _DISPATCH:
            lookup = written.lookup(f"{_DISPATCH[name]} vmap @{layer}-{name}")
            entries = [lookup, written.entry(chain.rules[-1])]
            original = Chain(node, layer, name, chain.rules[-1:], rule_whys=chain.rule_whys)
            yield _with_reasons(
                nft_objects.chain(node, TABLE, f"{layer}-{name}", entries, why=_SameReason(chain)),
                original,
                {lookup: calico_nftables_reasons.LOOKUP},
            )
        else:
            entries = [*map(written.entry, chain.rules)]
            yield _with_reasons(
                nft_objects.chain(node, TABLE, f"{layer}-{name}", entries, why=_SameReason(chain)), chain
            )


def set_name(name: str) -> str:
    """The name of an IP set as one of a set of nft, which may not have a colon."""
    return name.replace(":", "-")


def chain_name(name: str) -> str:
    """The name of a chain of the filter table in nftables."""
    return f"filter-{name}"


def _element(member: str) -> str:
    """A member of an IP set as an element: `10.0.0.1,tcp:80` is `10.0.0.1 . tcp . 80`."""
    address, comma, rest = member.partition(",")
    protocol, _, port = rest.partition(":")
    return f"{address} . {protocol} . {port}" if comma else address


def _dispatch_maps(node: str, chains: Mapping[tuple[str, str], Chain]) -> Iterator[NftObject]:
    """The verdict maps from the device of a pod to its chain: what the tree of dispatch chains says in iptables."""
    for root in _DISPATCH:
        elements = []
        for (layer, name), chain in chains.items():
            if layer == "filter" and (name == root or name.startswith(f"{root}-")):
                for rule in chain.rules:
                    device = rule.option("-i") or rule.option("-o")
                    if device is not None and not device.values[0].endswith("+"):
                        elements.append(f'"{device.values[0]}" : goto {chain_name(str(rule.target))}')
        name = chain_name(root)
        why = calico_nftables_reasons.DISPATCH_MAP
        yield nft_objects.map_(node, TABLE, name, sorted(elements), type="ifname : verdict", why=why)


@dataclass(slots=True)
class _Writer:
    """Writes the rules of one chain as nft prints them, each with Felix's comment. Felix's digest in it is of the
    chain's name and all rules up to this one, in Felix's own spelling."""

    layer: str
    chain: str
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.digest = sha224(self.chain.encode()).digest()

    def entry(self, rule: FirewallRule) -> str:
        """A rule as nft prints it."""
        return self._commented(*_words(self.layer, _without_digest(rule.args)))

    def lookup(self, text: str) -> str:
        """A rule that only looks up a verdict."""
        return self._commented(text, text, ())

    def _commented(self, felix: str, printed: str, comments: Iterable[str]) -> str:
        self.digest = sha224(self.digest + felix.encode()).digest()
        own = f"cali:{urlsafe_b64encode(self.digest).decode()[:HASH_LENGTH]};"
        comments = tuple(comments)
        share = (MAX_COMMENT - len(own)) // len(comments) if comments else 0
        return f'{printed} comment "{" ".join((own, *(one[:share] for one in comments)))[:MAX_COMMENT]}"'


def _without_digest(args: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a rule without the comment with Felix's digest, which is another one in each chain."""
    at = next((number for number, word in enumerate(args) if word.startswith("cali:")), None)
    return args if at is None else (*args[: at - 3], *args[at + 1 :])


@lru_cache(maxsize=65536)
def _words(layer: str, args: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    """A rule in Felix's spelling and as nft prints it, both without a comment, and its comments. Most rules of a pod's
    chain are in those of all pods."""
    rule = FirewallRule(args)
    comments: list[str] = []
    felix, printed = [], []
    for ours, nfts in _clauses(rule, comments):
        felix.append(ours)
        printed.append(nfts)
    target = next((part for part in rule.parts if part.flag in ("-j", "-g")), None)
    if target is not None:
        ours, nfts = _action(layer, target)
        felix += ["counter", ours]
        printed += ["counter", nfts]
    elif not felix:
        felix = printed = ["continue"]
    return " ".join(felix), " ".join(one for one in printed if one), tuple(comments)


def _action(layer: str, target: RulePart) -> tuple[str, str]:
    """What a rule does, in Felix's spelling and in nft's."""
    name = target.name
    if name.startswith("cali-"):
        text = f"{'goto' if target.flag == '-g' else 'jump'} {layer}-{name}"
    elif name == "MARK":
        return _set_mark(target.options[0].values[0])
    elif name == "CT":
        text = "notrack"
    elif name == "MASQUERADE":
        text = "masquerade fully-random"
    elif name in ("ACCEPT", "DROP", "RETURN"):
        text = name.lower()
    else:
        raise ValueError(f"Felix has no action {name} in nftables")
    return text, text


def _set_mark(value_and_mask: str) -> tuple[str, str]:
    value, mask = (int(one, 16) for one in value_and_mask.split("/"))
    kept = ~mask & 0xFFFFFFFF
    if value and value == mask:
        return f"meta mark set mark or {value:#x}", f"meta mark set meta mark | {value:#010x}"
    if not value:
        bits = f"meta mark set mark & {kept:#x}"
        return (f"{bits} ^ 0x0" if mask == _BLOCK_BITS else bits), f"meta mark set meta mark & {kept:#010x}"
    printed = f"meta mark set meta mark & {kept | value:#010x} | {value:#010x}"
    return f"meta mark set mark & {kept:#x} ^ {value:#x}", printed


def _clauses(rule: FirewallRule, comments: list[str]) -> Iterator[tuple[str, str]]:
    """The matches of a rule in Felix's spelling and in nft's, the protocol first. nft does not print a protocol that
    the next match says again. Comments that are not a digest go to `comments`."""
    head = {one.flag: one for one in rule.head}
    parts = [part for part in rule.parts if part.flag == "-m"]
    protocol = head["-p"].values[0] if "-p" in head else ""
    if protocol:
        number = _PROTOCOLS.get(protocol) if any(part.name == "multiport" for part in parts) else None
        number = 4 if protocol == "ipencap" else number
        hidden = any(part.name in ("multiport", "tcp", "udp", "sctp") for part in parts)
        yield f"meta l4proto {number or protocol}", "" if hidden else f"meta l4proto {protocol}"
    for flag, words in (("-s", "ip saddr"), ("-d", "ip daddr"), ("-i", "iifname"), ("-o", "oifname")):
        if flag in head:
            value = head[flag].values[0]
            if flag in ("-s", "-d"):
                yield f"{words} {value}", f"{words} {value.removesuffix('/32')}"
            else:
                device = value.replace("+", "*")
                yield f"{words} {device}", f'{words} "{device}"'
    for part in parts:
        yield from _match(part, protocol, comments)


def _match(part: RulePart, protocol: str, comments: list[str]) -> Iterator[tuple[str, str]]:
    if part.name == "comment":
        comments += [text for one in part.options if not (text := one.values[0]).startswith("cali:")]
        return
    if part.name == "rpfilter":
        yield ("fib saddr . mark . iif oif 0",) * 2
        return
    if part.name == "addrtype":
        yield (_address_type(part.options),) * 2
        return
    for one in part.options:
        values, no = one.values, "!= " if one.negated else ""
        if one.flag == "--mark":
            value, mask = (int(word, 16) for word in values[0].split("/"))
            sign = "!=" if one.negated else "=="
            ours = f"{value:#x}" if value else "0"
            yield f"meta mark & {mask:#x} {sign} {ours}", f"meta mark & {mask:#010x} {sign} {value:#010x}"
        elif one.flag == "--ctstate" and values[0] == "DNAT":
            yield (f"ct status {no}dnat",) * 2
        elif one.flag == "--ctstate":
            states = values[0].lower()
            yield f"ct state {states}", f"ct state {states.replace('related,established', 'established,related')}"
        elif one.flag == "--match-set":
            name = f"@{set_name(values[0])}"
            key = {"src": "ip saddr", "dst": "ip daddr", "dst,dst": "ip daddr . meta l4proto . th dport"}[values[1]]
            yield (f"{key} {no}{name}",) * 2
        elif one.flag == "--dports":
            ports = values[0].replace(":", "-").split(",")
            listed = f"{{ {', '.join(ports)} }}"
            yield f"{protocol} dport {listed}", f"{protocol} dport {listed if len(ports) > 1 else ports[0]}"
        elif one.flag == "--dport":
            yield (f"{protocol} dport {values[0]}",) * 2
        else:
            raise ValueError(f"Felix has no match {one.flag} in nftables")


def _address_type(options: Iterable[RuleOption]) -> str:
    flags = {one.flag: one for one in options}
    kind = next(one for name, one in flags.items() if name in ("--src-type", "--dst-type"))
    address = "saddr" if kind.flag == "--src-type" else "daddr"
    limited = " . oif" if "--limit-iface-out" in flags else ""
    return f"fib {address}{limited} type {'!= ' if kind.negated else ''}{kind.values[0].lower()}"


@dataclass(frozen=True, slots=True)
class _SameReason:
    """The reason of a chain in nftables: that of the same chain in iptables, looked up when somebody asks."""

    chain: Chain

    def __call__(self, item: object) -> Why | None:
        return reason_of(self.chain)


@dataclass(frozen=True, slots=True)
class _SameReasons:
    """The reasons of the rules of a chain in nftables: those of the same rules in iptables, but not of all."""

    chain: Chain
    entries: tuple[str, ...]
    own: Mapping[str, Why]

    def __call__(self, chain: object, rule: object) -> Why | None:
        text = str(rule)
        if (why := self.own.get(text)) is not None:
            return why
        others = (one for one in self.entries if one not in self.own)
        same = (original for entry, original in zip(others, self.chain.rules, strict=True) if entry == text)
        found = next((why for one in same if (why := reason_of_rule(self.chain, one)) is not None), None)
        return calico_nftables_reasons.in_nftables(found)


def _with_reasons(made: NftObject, original: Chain, own: Mapping[str, Why] | None = None) -> NftObject:
    reasons: tuple[RuleReasons, ...] = (_SameReasons(original, made.entries, own or {}),)
    why: Reason | None = made.why
    return NftObject(made.ns, made.table, made.kind, made.name, made.header, made.entries, why=why, rule_whys=reasons)
