"""The JSON documents of all verbs, one function for each. docs/json.md publishes their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labctl.core import fidelity
from labctl.core.resources import Address, Chain, Fdb, Link, Neighbour, Process, Route, Rule
from labctl.report.lab_overview import GONE, summaries, summary_json
from labctl.report.node_view import IP_PROTOCOLS, NodeView, settings
from labctl.report.plain_text import with_sudo

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.fidelity import Fidelity
    from labctl.core.lab_results import RunningSummary, UpResult
    from labctl.core.nft_counters import NftCounters
    from labctl.core.node_state import BridgePort, FdbEntry, ListeningSocket
    from labctl.core.observations import Flow
    from labctl.core.results import Outcome, PairCounts, Report, Sighting
    from labctl.core.scenario_types import Lab, Machine, VirtualAddress
    from labctl.errors import LabError
    from labctl.explanation.explanation import Explanation
    from labctl.explanation.glossary import Entry
    from labctl.explanation.planned_reasons import PlannedReasons
    from labctl.lab.doctor import Finding
    from labctl.scenario.catalog import ScenarioEntry

Document = dict[str, Any]


def error_document(error: LabError, code: int) -> Document:
    """An error: at least one entry in `errors`. file, line and column are null if no file is the cause."""
    errors: list[Document] = [
        {"file": one.file, "line": one.line, "column": one.column, "what": one.what, "hint": one.hint}
        for one in error.problems
    ]
    alone = {"file": None, "line": None, "column": None, "what": error.message, "hint": error.hint}
    return {
        "error": {"code": code, "kind": error.kind, "message": error.message, "errors": errors or [alone]},
    }


def up_document(result: UpResult, report: Report | None, profile: Document | None = None) -> Document:
    """`up --json`; `check` is null unless `--check` was given, `profile` unless `--profile` was."""
    return {
        "lab": result.lab.name,
        "model": result.lab.model,
        "created": result.created,
        "replaced": result.replaced,
        "updated": result.updated,
        "dry_run": result.dry,
        "seconds": round(result.seconds, 4),
        "changes": [change(one) for one in result.changes],
        "machines": [machine(one) for one in result.lab.machines],
        "services": [service(one) for one in result.lab.virtual_addresses],
        "approximate": approximations(result.lab),
        "warnings": list(result.lab.warnings),
        "check": None if report is None else check_document(report),
        "profile": profile,
    }


def graph_document(
    lab: Lab, form: str, drawing: str, is_running: bool = False, changes: Collection[Change] | None = None
) -> Document:
    """`graph --json`: the drawing as one text. `changes` are None if the lab was not compared with the kernel."""
    return {
        "lab": lab.name,
        "model": lab.model,
        "as": form,
        "running": is_running,
        "changes": None if changes is None else [change(one) for one in changes],
        "drawing": drawing,
    }


def handout_document(lab: Lab, kind: str, language: str, page: str, file: str | None) -> Document:
    """`handout --json`: the page as one text; `file` is where it was written, null if nowhere."""
    return {"lab": lab.name, "model": lab.model, "kind": kind, "language": language, "file": file, "page": page}


def view_document(lab: str, url: str, port: int) -> Document:
    """`view --json`, printed when the server listens."""
    return {"lab": lab, "url": url, "port": port}


def view_export_document(lab: str, file: str, traces: int) -> Document:
    """`view --export --json`; `traces` is how many the file can play."""
    return {"lab": lab, "file": file, "traces": traces}


def explain_document(lab: Lab, found: Iterable[Explanation]) -> Document:
    """`explain --json` of a lab: each object with its reason. `commands` run in the machine `in`; null is the machine
    that runs labctl."""
    from labctl.report.explanation import explanation_json  # it needs the catalogue of faults

    return {"lab": lab.name, "model": lab.model, "objects": explanation_json(found), "warnings": list(lab.warnings)}


def term_document(entry: Entry) -> Document:
    """`explain --json` of a term of the glossary."""
    return {"term": entry.title, "terms": list(entry.terms), "text": "\n\n".join(entry.paragraphs)}


def down_document(removed: Mapping[str, int], records: Collection[str] = ()) -> Document:
    """`down --json`: each lab with the number of its removed namespaces (0: it did not exist), and whether its record
    was one of `records`."""
    return {
        "labs": [{"lab": name, "namespaces": number, "record": name in records} for name, number in removed.items()]
    }


def list_document(running: Iterable[RunningSummary]) -> Document:
    """`list --json`; model, scenario and firewall are null if labctl's record is lost, as is an unknown owner."""
    return {
        "labs": [
            {
                "lab": lab.name,
                "model": lab.model,
                "scenario": lab.scenario,
                "nodes": list(lab.nodes),
                "approximate": list(lab.approximate),
                "firewall": lab.firewall,
                "owner": lab.owner,
            }
            for lab in running
        ]
    }


def scenarios_document(entries: Iterable[ScenarioEntry]) -> Document:
    """`list --scenarios --json`."""
    return {
        "scenarios": [
            {
                "name": entry.name,
                "title": entry.title,
                "model": entry.model,
                "grade": fidelity.summary(entry.parts),
                "parts": [fidelity_json(one) for one in entry.parts],
            }
            for entry in entries
        ]
    }


def fidelity_json(one: Fidelity) -> Document:
    """One part of a model and its fidelity to the real system."""
    return {
        "grade": one.grade,
        "what": one.aspect,
        "why": one.reason,
        "feature": one.feature,
        "instead": one.substitute,
    }


def approximations(lab: Lab) -> list[Document]:
    """The parts that were built as substitutes because the kernel lacks a feature."""
    return [{"feature": one.feature, "what": one.aspect, "instead": one.substitute} for one in lab.approximations]


def status_document(name: str, lab: Lab, changes: Iterable[Change], reasons: PlannedReasons | None = None) -> Document:
    """`status --json`; with --why, each change has the reason of each of its lines."""
    from labctl.report.up_status import change_reasons

    documents = [
        change(one) if reasons is None else {**change(one), "why": [*change_reasons(one, reasons)]} for one in changes
    ]
    return {"lab": name, "drift": bool(documents), "changes": documents, "approximate": approximations(lab)}


def check_document(report: Report) -> Document:
    """`check --json`."""
    return {"lab": report.lab, "verdict": report.verdict, "checks": [outcome(one) for one in report.outcomes]}


def plan_document(lab: Lab) -> Document:
    """`plan --as json`: the plan itself."""
    from labctl.render.plan_json import plan_json

    document: Document = plan_json(lab)
    addresses = [
        {
            "option": one.option,
            "network": str(one.network),
            "usable": one.usable,
            "taken": [{"by": who, "addresses": addresses} for who, addresses in one.taken],
            "left": one.left,
        }
        for one in lab.address_use
    ]
    parts = [fidelity_json(one) for one in lab.parts]
    about = {"parts": parts, "approximate": approximations(lab), "warnings": list(lab.warnings)}
    return {**document, "addresses": addresses, **about}


def validate_document(good: Mapping[str, Lab]) -> Document:
    """`validate --json` if all files are valid; else the error document is printed."""
    return {
        "valid": True,
        "files": [
            {
                "file": file,
                "lab": lab.name,
                "model": lab.model,
                "machines": len(lab.machines),
                "objects": len(lab.plan),
                "checks": len(lab.checks),
                "warnings": list(lab.warnings),
            }
            for file, lab in good.items()
        ],
    }


def show_document(name: str, views: Iterable[NodeView], lab: Lab | None, *, shows_all: bool) -> Document:
    """`show --json`; `lab` is None if its definition is lost. With `shows_all`, the views are all nodes, and a machine
    without a view is gone."""
    about: Document = {"model": None, "parts": [], "approximate": []}
    if lab is not None:
        about = {
            "model": lab.model,
            "parts": [fidelity_json(one) for one in lab.parts],
            "approximate": approximations(lab),
        }
    views = list(views)
    machines = [summary_json(one) for one in summaries(views, lab) if GONE not in one.problems or shows_all]
    services = [] if lab is None else [service(one) for one in lab.virtual_addresses]
    return {"lab": name, **about, "machines": machines, "services": services, "nodes": [node(view) for view in views]}


def service(one: VirtualAddress) -> Document:
    """A Kubernetes Service of a lab."""
    return {
        "name": one.names[0],
        "type": one.kind,
        "addresses": [*map(str, one.ips)],
        "ports": list(one.ports),
        "endpoints": [*one.machines, *map(str, one.elsewhere)],
    }


def doctor_document(findings: Iterable[Finding], sudo: str) -> Document:
    """`doctor --json`, with `sudo` before commands that need the machine's root."""
    documents = [
        {"what": one.subject, "state": one.state, "detail": one.detail, "fix": with_sudo(one.fix, sudo)}
        for one in findings
    ]
    return {"ok": all(one["state"] != "missing" for one in documents), "findings": documents}


def change(one: Change) -> Document:
    """One difference: the object as wanted and as found (null if there is none), and its text line."""
    from labctl.render.plan_json import resource_json
    from labctl.render.resources import change_lines

    return {
        "kind": one.kind,
        "node": one.subject.ns,
        "want": None if one.want is None else resource_json(one.want),
        "have": None if one.have is None else resource_json(one.have),
        "text": "\n".join(change_lines(one)),
    }


def machine(one: Machine) -> Document:
    """A machine: its name, role, node and addresses."""
    addresses = [str(ip) for ip in one.addresses]
    return {"name": one.name, "role": one.role, "on": one.on, "within": one.netns_of, "addresses": addresses}


def outcome(one: Outcome) -> Document:
    """One check with its verdict and its evidence."""
    check = one.check
    return {
        "say": check.say,
        "verdict": one.verdict,
        "evidence": list(one.evidence),
        "probe": check.probe,
        "from": check.source or None,
        "to": check.target or None,
        "port": check.port,
        "sport": check.sport,
        "expect": check.expect,
        "command": one.command,
        "seconds": round(one.seconds, 4),
        "pcap": one.pcap or None,
        "pairs": None if one.pairs is None else pairs_json(one.pairs),
        "answers": _answers(one) if check.probe == "balance" else None,
        "origin": check.origin,
        "sightings": [sighting(seen) for seen in one.sightings],
    }


def _answers(one: Outcome) -> list[Document]:
    """Which machine answered how often, and saw which client; null for connections without an answer."""
    found = Counter((answer.machine or None, answer.client) for answer in one.answers)
    return [
        {"machine": machine, "client": None if client is None else str(client), "count": number}
        for (machine, client), number in sorted(found.items(), key=str)
    ]


def pairs_json(one: PairCounts) -> Document:
    """How many pairs a mesh has, and how many the check chose and asked."""
    return {"total": one.total, "chosen": one.chosen, "asked": one.asked, "sampled": one.sampled}


def sighting(one: Sighting) -> Document:
    """One packet, seen at one point. `when` is in nanoseconds since the epoch."""
    return {
        "at": str(one.at),
        "when": one.time_ns,
        "direction": one.direction,
        "src": str(one.src),
        "dst": str(one.dst),
        "ttl": one.ttl,
        "proto": one.proto,
        "reply": one.reply,
        "encap": one.encap,
        "outer": None if one.outer is None else [str(end) for end in one.outer],
        "length": one.length,
    }


def node(view: NodeView) -> Document:
    """The objects of one node, by kind; firewall chains with their counters."""
    from labctl.render.plan_json import resource_json

    kinds = {
        "links": Link,
        "addresses": Address,
        "routes": Route,
        "rules": Rule,
        "neighbours": Neighbour,
        "forwarding": Fdb,
        "processes": Process,
    }
    objects = {
        name: [resource_json(item) for item in view.plan if isinstance(item, kind)] for name, kind in kinds.items()
    }
    return {
        "node": view.node,
        **objects,
        "chains": _chains(view),
        "nft": [_nft_object(one) for one in view.state.nft],
        "settings": settings(view),
        "connected": [resource_json(route) for route in view.state.connected_routes],
        "ports": [_port(one) for one in view.state.ports],
        "fdb": [_fdb_entry(one) for one in view.state.fdb],
        "conntrack": [_flow(one) for one in view.state.flows],
        "sockets": [_socket(one) for one in view.state.sockets],
    }


def _port(one: BridgePort) -> Document:
    return {
        "device": one.at.dev,
        "bridge": one.bridge,
        "state": one.state,
        "hairpin": one.hairpin,
        "isolated": one.isolated,
    }


def _fdb_entry(one: FdbEntry) -> Document:
    remote = None if one.dst is None else str(one.dst)
    return {"mac": one.mac, "device": one.at.dev, "bridge": one.bridge, "remote": remote, "state": one.state}


def _flow(one: Flow) -> Document:
    """A connection. The ports of ICMP are the identifier."""
    ends = ("src", "dst", "sport", "dport")
    return {
        "protocol": IP_PROTOCOLS.get(one.protocol, str(one.protocol)),
        **{name: value if isinstance(value := getattr(one, name), int) else str(value) for name in ends},
        "reply": {
            name: value if isinstance(value := getattr(one, f"reply_{name}"), int) else str(value) for name in ends
        },
        "translated": one.is_translated,
        "state": one.state,
    }


def _socket(one: ListeningSocket) -> Document:
    return {
        "protocol": one.protocol,
        "address": str(one.address),
        "port": one.port,
        "processes": list(one.processes),
    }


def _nft_object(counted: NftCounters) -> Document:
    item = counted.item
    numbers = [(None, None) if one is None else one for one in counted.counters]
    lines = [
        {"line": line, "packets": packets, "bytes": size}
        for line, (packets, size) in zip(item.entries, numbers, strict=True)
    ]
    return {"table": item.table, "kind": item.kind, "name": item.name, "header": list(item.header), "lines": lines}


def _chains(view: NodeView) -> list[Document]:
    found = []
    for counted in view.state.chains:
        chain: Chain = counted.chain
        rules = [
            {"rule": str(rule), "packets": packets, "bytes": size}
            for rule, (packets, size) in zip(chain.rules, counted.rule_counters, strict=True)
        ]
        packets, size = counted.policy_counter
        found.append(
            {
                "family": chain.family,
                "table": chain.table,
                "chain": chain.name,
                "policy": chain.policy,
                "packets": packets,
                "bytes": size,
                "rules": rules,
            }
        )
    return found
