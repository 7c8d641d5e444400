"""Losses in a firewall: a rule or a policy that drops or rejects, also for bridged frames. Pure."""

from __future__ import annotations

from labctl.core.iptables import STRAY
from labctl.tracing.evidence import Met, Moved
from labctl.tracing.loss_point import Scene
from labctl.tracing.result import TOOLS, Note, Why, command, rule_text

HOOKS = ("nf_hook_slow", "nft_do_chain", "ebt_do_table")  # functions that drop for a firewall, if no reason is given
FELLING = {"DROP": "dropped", "REJECT": "rejected"}


def rule(scene: Scene) -> Why | None:
    """A rule that dropped or rejected the packet, known by the kernel's report, else by its counter."""
    met = next((one for one in reversed(scene.met) if one.kind != "return" and one.target in FELLING), None)
    if met is not None:
        return _told(scene, met, sure=True)
    netfilter = scene.drop is not None and (scene.drop.reason == "NETFILTER_DROP" or scene.at(*HOOKS))
    if not (netfilter or (scene.drop is None and not scene.evidence.ruled)) and not _bridge_moved(scene):
        return None
    family = "ip" if scene.version == 4 else "ip6"
    families = (family, STRAY[family], "bridge")
    moved = [one for one in scene.moved if one.target in FELLING and one.family in families]
    if moved:
        return _told(scene, moved[0], sure=netfilter and len(moved) == 1)
    if netfilter:
        place = (
            f"a netfilter hook of {scene.node} dropped it, but no iptables rule counted it: nftables or another module"
        )
        return Why("rule", place, (), (command(scene.evidence, scene.node, "nft list ruleset"),))
    return None


def _bridge_moved(scene: Scene) -> bool:
    """Whether the packet ended in a bridge and an ebtables rule counted a drop there (ebtables has no reports)."""
    link = scene.device
    port = link is not None and (link.master is not None or link.kind == "bridge")
    return port and scene.drop is None and any(one.family == "bridge" and one.target in FELLING for one in scene.moved)


def _told(scene: Scene, one: Met | Moved, *, sure: bool) -> Why:
    done = FELLING[one.target]
    policy = one.kind == "policy" if isinstance(one, Met) else one.number == 0
    what = f"the policy of {one.chain}" if policy else f"a rule of {one.chain}"
    packet = scene.role if not isinstance(one, Met) or one.role == scene.role else f"{one.role} to it"
    sentence = f"{what} in {one.node} {done} the {packet}"
    if isinstance(one, Met) and one.hook == 3:
        sentence = f"the firewall of {one.node} {done} the {packet} before it left: {what}"
    if not sure:
        sentence = f"probably {sentence} (its counter increased, perhaps because of other packets)"
    facts = [Note("rule", f"{one.node}: {rule_text(one)}"), *_bridge_call(scene, one)]
    tool = TOOLS.get(one.family, "iptables")
    tries = [command(scene.evidence, one.node, f"{tool} -t {one.table} -L {one.chain} -n -v --line-numbers")]
    facts += _untranslated(scene, one)
    return Why("rule", sentence, tuple(facts), tuple(tries))


def _bridge_call(scene: Scene, one: Met | Moved) -> list[Note]:
    """The setting because of which a frame between two ports of a bridge passed iptables."""
    if one.family == "bridge" or scene.tip is None or not scene.entering:
        return []
    link = scene.device
    if link is None or link.master is None:
        return []
    master = scene.evidence.link(scene.node, link.master)
    routed = master is not None and scene.tip.mac is not None and scene.tip.mac[1] == master.mac
    name = f"net.bridge.bridge-nf-call-{TOOLS[one.family]}"
    if routed or scene.sysctl(name) != "1":
        return []
    text = f"{scene.node}: {name} = 1, so frames that {link.master} only bridges pass {TOOLS[one.family]} as well"
    return [Note("sysctl", text)]


def _untranslated(scene: Scene, one: Met | Moved) -> list[Note]:
    """The rule matches the source, which nothing on the path has translated."""
    rule = one.rule.split()
    if "-s" not in rule or scene.tip is None or scene.role != "request" or len(scene.hops) < 2:
        return []
    first = scene.hops[0].crossings[0]
    if first.src != scene.tip.src:
        return []
    text = f"the source is still {first.src}: nothing on the path translated it (no MASQUERADE or SNAT rule matched)"
    return [Note("nat", text)]
