"""Losses in a firewall: a rule or a policy that drops or rejects, also for bridged frames. Pure."""

from __future__ import annotations

from labctl.core.iptables import TERMINATING_TARGETS, UNSHOWN, FirewallRule, quote
from labctl.core.sentence import Sentence, sentence
from labctl.tracing.counted_rules import dropping_rules
from labctl.tracing.evidence import CounterIncrease, RuleHit
from labctl.tracing.hop_routing import OUTPUT_HOOK
from labctl.tracing.kept_source import find_kept_source
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.policy_rules import find_denial, why_command
from labctl.tracing.result import ROLE_WORDS, TOOLS, Cause, Note, chain_command, exec_command, rule_note, rule_place

FIREWALL_FUNCTIONS = (
    "nf_hook_slow",
    "nft_do_chain",
    "ebt_do_table",
)  # functions that drop for a firewall, if no reason is given


def rule(loss_point: LossPoint) -> Cause | None:
    """A rule that dropped or rejected the packet, known by the kernel's report, else by its counter."""
    met = next(
        (one for one in reversed(loss_point.rule_hits) if one.kind != "return" and one.target in TERMINATING_TARGETS),
        None,
    )
    if met is not None:
        return _rule_cause(loss_point, met, sure=True)
    netfilter = loss_point.drop is not None and (
        loss_point.drop.reason == "NETFILTER_DROP" or loss_point.dropped_in(*FIREWALL_FUNCTIONS)
    )
    if not (
        netfilter or (loss_point.drop is None and not loss_point.evidence.rules_traced)
    ) and not _bridge_rule_counted(loss_point):
        return None
    increases = dropping_rules(loss_point)
    if increases:
        return _rule_cause(loss_point, increases[0], sure=netfilter and len(increases) == 1)
    if netfilter:
        place = sentence(
            "a netfilter hook of {node} dropped it, but no iptables rule that can match it counted it: nftables or"
            " another module",
            node=loss_point.sending_namespace,
        )
        if not loss_point.evidence.rules_traced:
            place = sentence(
                "a netfilter hook of {node} dropped it; which rule is not known, because not all rules that the packet"
                " met were recorded",
                node=loss_point.sending_namespace,
            )
        words = "nft list ruleset  # nft is in the package nftables"
        return Cause("rule", place, (), (exec_command(loss_point.evidence, loss_point.sending_namespace, words),))
    return None


def _bridge_rule_counted(loss_point: LossPoint) -> bool:
    """Whether the packet ended in a bridge and an ebtables rule counted a drop there (ebtables has no reports)."""
    traced = loss_point.evidence.drops_traced  # then a policy that dropped it would have been reported
    return loss_point.drop is None and any(
        one.family == "bridge" and (one.packets or not traced) for one in dropping_rules(loss_point)
    )


def _rule_cause(loss_point: LossPoint, one: RuleHit | CounterIncrease, *, sure: bool) -> Cause:
    packet = ROLE_WORDS[loss_point.role]
    if isinstance(one, RuleHit) and one.role != loss_point.role:
        packet = sentence("{reply} to it", reply=ROLE_WORDS[one.role])
    words = {"rule": chain_rule(one), "node": one.node, "dropped": TERMINATING_TARGETS[one.target], "packet": packet}
    text: str = sentence("{rule} in {node} {dropped} the {packet}", **words)
    if isinstance(one, RuleHit) and one.hook == OUTPUT_HOOK:
        text = sentence("the firewall of {node} {dropped} the {packet} before it left: {rule}", **words)
    denial = find_denial(loss_point, one)
    if denial is not None:
        text = denial.reason
    order: list[Note] = []
    if isinstance(one, RuleHit) and one.node in _nodes_with_nft(loss_point):
        from labctl.tracing.hook_order import hooks_note, leading_rules, undone_accept

        order = [rule_note(jump) for jump in leading_rules(loss_point.rule_hits, one)]
        accept = undone_accept(loss_point.rule_hits, one)
        if accept is not None:
            text = sentence(
                "{text}, although {rule} had accepted it: an accept ends only its own base chain",
                text=text,
                rule=rule_place(accept),
            )
            order.append(rule_note(accept))
        order += hooks_note(loss_point.rule_hits, one)
        order += [Note("ct", f"{one.node}: {one.nft.ct}")] if one.nft is not None and one.nft.ct else []
    if not sure:
        text = sentence("probably {text} ({uncertainty})", text=text, uncertainty=uncertainty(one))
    facts = [rule_note(one), *_bridge_nf_note(loss_point, one)]
    if denial is not None:
        return Cause("rule", text, tuple(facts), (why_command(loss_point.evidence, denial),))
    facts += order
    facts += _source_note(loss_point, one)
    facts += _promiscuous_note(loss_point, one)
    return Cause("rule", text, tuple(facts), (list_command(loss_point, one),))


def _nodes_with_nft(loss_point: LossPoint) -> set[str]:
    """The namespaces where the packet met rules of nft tables that iptables did not write."""
    return {hit.node for hit in loss_point.rule_hits if hit.nft is not None}


def chain_rule(one: RuleHit | CounterIncrease) -> Sentence:
    """A rule by its chain: `a rule of FORWARD`, `the policy of FORWARD`."""
    policy = one.kind == "policy" if isinstance(one, RuleHit) else one.number == 0
    nft = isinstance(one, RuleHit) and one.nft is not None
    chain = f"{one.family} {one.table}/{one.chain}" if nft else one.chain
    return sentence("the policy of {chain}", chain=chain) if policy else sentence("a rule of {chain}", chain=chain)


def uncertainty(one: RuleHit | CounterIncrease) -> Sentence:
    """Why a rule is only probably the cause."""
    if isinstance(one, CounterIncrease) and not one.packets:
        return sentence("it has no counter")
    return sentence("its counter increased, perhaps because of other packets")


def list_command(loss_point: LossPoint, one: RuleHit | CounterIncrease) -> str:
    """The command that lists the chain of a rule, with the numbers and counters of its rules."""
    if isinstance(one, RuleHit) and one.nft is not None:
        return exec_command(loss_point.evidence, one.node, chain_command(one))
    flags = "--Ln --Lc" if one.family == "bridge" else "-n -v --line-numbers"
    command = f"{TOOLS.get(one.family, 'iptables')} -t {one.table} -L {one.chain} {flags}"
    if one.family == "nft":
        command = "nft list ruleset  # nft is in the package nftables"
    elif (one.rule or "").startswith(quote(UNSHOWN)):  # iptables would list it as another rule
        command = f"nft list chain {one.family} {one.table} {one.chain}  # nft is in the package nftables"
    return exec_command(loss_point.evidence, one.node, command)


def _bridge_nf_note(loss_point: LossPoint, one: RuleHit | CounterIncrease) -> list[Note]:
    """The setting because of which a frame between two ports of a bridge passed iptables."""
    if one.family == "bridge" or loss_point.last_observation is None or not loss_point.entering:
        return []
    link = loss_point.device
    if link is None or link.master is None:
        return []
    master = loss_point.evidence.link(loss_point.node, link.master)
    routed = (
        master is not None
        and loss_point.last_observation.mac is not None
        and loss_point.last_observation.mac[1] == master.mac
    )
    tool = TOOLS["ip" if loss_point.version == 4 else "ip6"]
    name = f"net.bridge.bridge-nf-call-{tool}"
    if routed or loss_point.sysctl(name) != "1":
        return []
    text = sentence(
        "{node}: {name} = 1, so frames that {bridge} only bridges pass {tool} as well",
        node=loss_point.node,
        name=name,
        bridge=link.master,
        tool=tool,
    )
    return [Note("sysctl", text)]


def _promiscuous_note(loss_point: LossPoint, one: RuleHit | CounterIncrease) -> list[Note]:
    """Why a packet that a promiscuous bridge passes up is INVALID: the kernel removes its connection there.

    Source: br_nf_local_in of net/bridge/br_netfilter_hooks.c, Linux 6.9 and the stable kernels after it.
    """
    link = loss_point.device
    if link is None or "INVALID" not in (one.rule or ""):
        return []
    bridge = loss_point.evidence.link(loss_point.node, link.master or link.at.dev)
    if bridge is None or bridge.kind != "bridge" or not bridge.promisc:
        return []
    text = sentence(
        "{node}: {dev} is promiscuous, and the kernel forgets the connection of what it passes up",
        node=one.node,
        dev=bridge.at.dev,
    )
    return [Note("bridge", text)]


def _source_note(loss_point: LossPoint, one: RuleHit | CounterIncrease) -> list[Note]:
    """The rule matches the source, which nothing on the path has translated."""
    if (
        FirewallRule.from_text(one.rule).option("-s") is None
        or loss_point.last_observation is None
        or loss_point.role != "request"
        or len(loss_point.hops) < 2
    ):
        return []
    first = loss_point.hops[0].observations[0]
    if first.src != loss_point.last_observation.src:
        return []
    kept = find_kept_source(loss_point.evidence, first.src)
    why = sentence("nothing on the path translated it (no MASQUERADE or SNAT rule matched)")
    if kept is not None:
        why = kept.text
    return [Note("nat", sentence("the source is still {src}: {why}", src=first.src, why=why))]
