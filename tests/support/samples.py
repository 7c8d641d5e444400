"""One small made-up lab with an object of every kind, and what each verb finds in it: for tests without a kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from labctl.core.address_use import AddressUse
from labctl.core.diff import Change
from labctl.core.exercise_types import (
    Exercise,
    ExerciseProbe,
    ExerciseTexts,
    FixGoal,
    Hint,
    LocateGoal,
    PredictGoal,
    SolveStep,
    Task,
)
from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters
from labctl.core.judgement import Judgement
from labctl.core.lab_results import UpResult
from labctl.core.lesson_types import (
    Claim,
    Lesson,
    LessonStep,
    LessonTexts,
    Prediction,
    ReadText,
    RunCommand,
    RunVerb,
    StepTexts,
)
from labctl.core.neighbour_tables import FullTable
from labctl.core.netfilter_hooks import HookChain
from labctl.core.nft_counters import parse_counters
from labctl.core.node_state import BridgePort, FdbEntry, ListeningSocket, NodeState
from labctl.core.observations import Flow, KernelEvent, NftMatch, RouteLookup
from labctl.core.resources import (
    Address,
    Attachment,
    Chain,
    Fdb,
    Interface,
    IpSet,
    Link,
    Neighbour,
    Netns,
    NftObject,
    Process,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.results import BackendAnswer, Outcome, PairCounts, Report, Sighting
from labctl.core.scenario_types import Check, Lab, Machine, See, VirtualAddress
from labctl.core.snat_ports import PortUse
from labctl.exercises import progress
from labctl.faults.catalogue import find_kind
from labctl.faults.fault import Fault
from labctl.lab.doctor import Finding
from labctl.lab.fault_records import FaultRecord
from labctl.lab.lifecycle import RunningSummary
from labctl.lessons import progress as lesson_progress
from labctl.lessons.outcome import StepOutcome
from labctl.lessons.session import LessonSession
from labctl.report.node_view import NodeView
from labctl.scenario.catalog import ScenarioEntry
from labctl.scenario.exercise_catalog import ExerciseEntry
from labctl.scenario.lesson_catalog import LessonEntry
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import (
    CounterIncrease,
    ListenPoint,
    NamespaceState,
    NatTable,
    NeighbourObservation,
    PolicyDenial,
    Question,
    RuleHit,
    TraceEvidence,
    UnansweredNeighbour,
)
from labctl.tracing.hops import PacketObservation

ETH0 = Interface("node1", "eth0")
ROUTE = Route("node1", IPv4Network("10.244.1.0/24"), via=IPv4Address("10.224.0.5"), dev="eth0")
NAT = Chain("node1", "nat", "POSTROUTING", (rule("-s 10.244.0.0/16 -j MASQUERADE"), rule("-j RETURN")), policy="ACCEPT")
CONFLIST = '{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}'
ATTACHMENT = Attachment("a", "node1", CONFLIST, '{"mac": "02:00:00:00:00:0a"}')
NFT_HOOK = "type nat hook postrouting priority srcnat; policy accept;"
OWN = Chain("node1", "filter", "KUBE-FORWARD")
PLAN = (
    Netns("node1"),
    Link(ETH0, "veth", peer=Interface("fabric", "node1"), mtu=1500, mac="02:00:00:00:00:01", promisc=True),
    Sysctl("node1", "net.ipv4.ip_forward", "1"),
    Address(ETH0, IPv4Interface("10.224.0.4/24")),
    Neighbour(ETH0, IPv4Address("10.224.0.1"), "02:00:00:00:00:02"),
    Fdb(ETH0, "02:00:00:00:00:03", IPv4Address("10.224.0.5")),
    ROUTE,
    Rule("node1", 100, table=7, src=IPv4Network("10.244.0.0/24"), mark=1, mask=255),
    IpSet("node1", "pods", members=("10.244.0.0/16",)),
    NAT,
    OWN,
    NftObject("node1", "inet masq", "table"),
    NftObject("node1", "inet masq", "chain", "postrouting", (NFT_HOOK,), ('oifname "eth0" masquerade',)),
    ATTACHMENT,
    Process("node1", "web", ("serve", "web", "tcp:80")),
)
PING = Check(
    "pods on different nodes see each other's own address", "ping", "a", "c", sees=(See(ETH0, src="a", ttl=63),)
)
MESH = Check("every pod reaches every pod", "mesh", groups=((("a",), ("c",)),), origin="model")
MACHINES = (
    Machine("node1", "node", (IPv4Address("10.224.0.4"), IPv4Address("10.244.0.1"))),
    Machine("a", "pod", (IPv4Address("10.244.0.2"),), on="node1"),
    Machine("c", "pod", (IPv4Address("10.244.1.2"),), on="node2"),
    Machine("fabric", "fabric"),
)
PARTS = (
    faithful("cbr0"),
    approximation("the load balancer", "is one SNAT rule"),
    needs("vlan", "the tenants' VLANs", instead="a veth for each tenant"),
    skipped("IPv6"),
)
SERVICE = VirtualAddress(("web", "web.default"), (IPv4Address("10.0.0.10"),), ("a", "c"), "NodePort", ("80:30080/TCP",))
ADDRESS_USE = (AddressUse("pod_cidr", IPv4Network("10.244.0.0/16"), 65536, (("for 2 nodes (a /24 each)", 512),)),)
LAB = Lab("kubenet", "kubenet", PLAN, MACHINES, (PING, MESH), "a small cluster", PARTS, ("vlan",))
LAB = replace(LAB, virtual_addresses=(SERVICE,), address_use=ADDRESS_USE)
MADE = tuple(Change(item, None) for item in PLAN)
DRIFT = (
    Change(None, Address(ETH0, IPv4Interface("192.0.2.1/32"))),
    Change(ROUTE, None),
    Change(NAT, Chain("node1", "nat", "POSTROUTING", NAT.rules[1:], policy="ACCEPT")),
)
SEEN = Sighting(
    ETH0, 1_700_000_000_000_000_000, "in", IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 63, "icmp", False
)
PASSED = Outcome(PING, "pass", ("entering node1/eth0: 10.0.0.1 > 10.0.0.2 ttl 63",), "ping -c 1 c", (SEEN,), 0.25)
COUNTS = PairCounts(999_000, 40_000, 40_000)
FAILED = Outcome(
    MESH, "fail", ("expected a reply", "seen: nothing, at node1/eth0"), "ping -c 1 c", (), 5.0, pairs=COUNTS
)
BALANCED = Outcome(
    Check("a and c share connections", "balance", "a", "c", 80, answered_by=(("a", 1), ("c", 1))),
    "fail",
    ("2 connections: a answered 1",),
    answers=(BackendAnswer("a", IPv4Address("10.244.0.2"), 40000, "web"), BackendAnswer(problem="no answer")),
)
UNSURE = Outcome(PING, "inconclusive", ("packets were lost on the way to the tap",), "", (), 0.5)
SKIPPED = Outcome(PING, "skip", ("tcpdump is not here",))
COUNTED = (ChainCounters(NAT, ((3, 252), (1, 84)), (9, 900)), ChainCounters(OWN, ()))
NFT_TEXT = """
table inet masq {
    set pods {
        type ipv4_addr
        elements = { 10.244.0.2 }
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth0" counter packets 7 bytes 420 masquerade
        accept
    }
}
"""
STATE = NodeState(
    "node1",
    (Route("node1", IPv4Network("10.224.0.0/24"), dev="eth0", src=IPv4Address("10.224.0.4"), proto=2),),
    2,
    (
        Flow("node1", 6, IPv4Address("10.244.0.2"), IPv4Address("10.96.0.10"), 4711, 80,
             IPv4Address("10.244.1.2"), IPv4Address("10.244.0.2"), 8080, 4711, "ESTABLISHED"),
        Flow("node1", 1, IPv4Address("10.244.0.2"), IPv4Address("10.224.0.5"), 7, 7,
             IPv4Address("10.224.0.5"), IPv4Address("10.244.0.2"), 7, 7, "replied"),
    ),
    (BridgePort(Interface("node1", "veth0"), "cbr0", "forwarding", hairpin=True),),
    (
        FdbEntry(Interface("node1", "veth0"), "02:00:00:00:00:05", "dynamic", "cbr0"),
        FdbEntry(ETH0, "02:00:00:00:00:03", "permanent", None, IPv4Address("10.224.0.5")),
    ),
    (ListeningSocket("tcp", IPv4Address("0.0.0.0"), 80, ("web (process 4711)",)),),
    ("veth1",),
    COUNTED,
    {"net.ipv4.ip_forward": "1"},
    tuple(parse_counters("node1", NFT_TEXT)),
)  # fmt: skip
HOOK_CHAINS = (
    HookChain("ip", "filter", "FORWARD", "filter", "forward", 0, "drop", rules=2, tool="iptables"),
    HookChain("inet", "fw", "late", "filter", "forward", 0, rules=1, handle=4, table_handle=2),
    HookChain("inet", "fw", "early", "filter", "forward", -10, handle=2, table_handle=2),
    HookChain("netdev", "dev", "in", "filter", "ingress", 0, devices=("eth0",), rules=1, handle=1, table_handle=3),
)
VIEW = NodeView("node1", PLAN, STATE)
RUNNING = (
    RunningSummary("kubenet", ("a", "c", "fabric", "node1"), "kubenet", "/labs/kubenet.yaml", ("vlan",), "nft"),
    RunningSummary("lost", ("x",), None, None),
)
ENTRIES = (ScenarioEntry("kubenet", "a small cluster", "kubenet", PARTS),)
FINDINGS = (
    Finding("root", "ok"),
    Finding("neighbour table", "warn", "it was full", "sysctl -w x=y"),
    Finding("ping", "missing", "not found", "apt-get install iputils-ping"),
)


A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
FLOW = Flow("node1", 6, A, B, 40000, 80, B, A, 80, 40000, "SYN_SENT")
TRACE = TraceEvidence(
    Question("kubenet", "a", "c", B, "c", "tcp", 80, sport=40000, listener=ListenPoint("c", 80)),
    "timeout",
    "no answer",
    4711,
    (
        NamespaceState(
            "node1",
            (Link(ETH0, "veth"),),
            (Address(ETH0, IPv4Interface("10.224.0.4/24")),),
            (ROUTE,),
            (Neighbour(ETH0, IPv4Address("10.224.0.1"), "02:00:00:00:00:02"),),
            (Fdb(ETH0, "02:00:00:00:00:03"),),
            {"net.ipv4.ip_forward": "0"},
            ("eth0",),
            ("tcp 127.0.0.1:80",),
            {"Ip.InAddrErrors": 1},
        ),
    ),
    (PacketObservation("node1", "eth0", "in", 3_000, "request", A, B, 63, 74, 40000, 80),),
    (
        RuleHit(
            "node1",
            "request",
            "inet",
            0,
            "fw",
            "pre",
            "rule",
            1,
            A,
            B,
            "eth0",
            rule="tcp dport @web accept",
            target="ACCEPT",
            nft=NftMatch(4, "accept", "pre", "prerouting", -150, "filter", "80", "ct state new"),
        ),
        RuleHit("node1", "request", "ip", 2, "filter", "FORWARD", "rule", 1, A, B, "eth0", "", 0, "-j DROP", "DROP"),
    ),
    (CounterIncrease("node1", "ip", "filter", "FORWARD", 1, 1, "-j DROP", "DROP"),),
    (
        KernelEvent(
            "drop", 9_000, 4711, "00000000d0c30144", protocol=2048, reason="NETFILTER_DROP", location="nf_hook_slow"
        ),
    ),
    (RouteLookup("node1", B, A, "eth0", 0, "10.0.0.2 dev eth0", dev="eth0"),),
    (FLOW,),
    (UnansweredNeighbour("node1", "eth0", B),),
    {"a": (A,), "c": (B,)},
    unknown=("no tracefs here",),
    neighbour_observations=(
        NeighbourObservation("node1", "eth0", "out", 2_000, B, True, A, ("02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff")),
    ),
    flows_before=(FLOW,),
    nat_tables=(NatTable("node1", (NAT,)),),
    port_uses=(
        PortUse(
            "r1",
            "POSTROUTING",
            1,
            "-j SNAT --to-source 192.0.2.1:1024-1031",
            "udp",
            IPv4Address("192.0.2.2"),
            53,
            "192.0.2.1:1024-1031",
            8,
            8,
        ),
    ),
    full_tables=(FullTable(4),),
    policy_denials=(
        PolicyDenial(
            "node1",
            IPv4Address("10.244.0.2"),
            IPv4Address("10.244.1.2"),
            80,
            "Egress",
            "a",
            ("cali-fw-veth1",),
            "no rule",
        ),
    ),
)
STORY = diagnose(TRACE)


def report(*outcomes: Outcome) -> Report:
    """A report over the sample lab."""
    return Report("kubenet", outcomes)


def result(*, created: bool = True, dry: bool = False, changes: tuple[Change, ...] = MADE) -> UpResult:
    """What `up` found to do."""
    return UpResult(LAB, changes, created, dry, 0.21)


FAULT_KIND = find_kind("route-missing")
FAULTS = [
    (FAULT_KIND, (Fault("route-missing", "node1/10.244.1.0/24", (Change(None, ROUTE),), (), ()),)),
]
FAULT_RECORD = FaultRecord("route-missing", "node1/10.244.1.0/24", True, (ROUTE,), ())

EXERCISE = Exercise(
    "A way out",
    "Two paragraphs.\n\n  labctl trace a c\n\nThe second one.",
    (
        Task("Which address?", PredictGoal(ExerciseProbe("a", "c"), "src", Interface("c", "eth0")), 2, "a"),
        Task("Repair it.", FixGoal(), 3, steps=(SolveStep("node1", "ip -n labctl.$LAB.a link"),)),
        Task("Where?", LocateGoal(ExerciseProbe("a", "c", "tcp", 80)), 4, "node1/eth0"),
    ),
    level=2,
    topic="routes",
    hints=(Hint("Look at the routes."), Hint("Look again.", 2)),
    explain="It was the route.",
    texts=(("ja", ExerciseTexts("題", tasks=("一", "二", "三"))),),
)
PROGRESS = progress.begun(EXERCISE, "a-way-out", "ana", "a-way-out", "2026-11-30T12:00:00Z")
JUDGEMENT = Judgement("failed", ("node1 lacks a route; its routes: none",))
EXERCISES = (ExerciseEntry("a-way-out", "a-way-out.yaml", EXERCISE),)

LESSON = Lesson(
    "One way",
    "It says one thing.",
    (
        LessonStep(ReadText(), "Read this."),
        LessonStep(RunCommand("a", "ip -br addr | cat", 0, ("eth0",)), "Run this.", "It has a device."),
        LessonStep(RunVerb(("trace", "a", "c"))),
        LessonStep(
            Prediction(PredictGoal(ExerciseProbe("a", "c"), "verdict"), "answered"), "What happens?", "It is so."
        ),
        LessonStep(Claim("Pods are translated.", False, PASSED.check.say), then="They are not."),
    ),
    topic="routes",
    exercise="route-table",
    texts=(("ja", LessonTexts("一つの道", "一つだけ。", (StepTexts("読む"), *[StepTexts()] * 4))),),
)
LESSONS = (LessonEntry("one", "10-one.yaml", LESSON),)
LESSON_PROGRESS = lesson_progress.begun(LESSON, "one", "ana", "one", "2026-11-30T12:00:00Z")
LESSON_SESSION = LessonSession(LESSON, LESSON_PROGRESS)
STEP_OUTCOME = StepOutcome(4, report=report(PASSED))
