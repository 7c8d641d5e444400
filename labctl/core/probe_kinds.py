"""The kinds of probes of checks: what a file may say about each, and how a check of that kind becomes text. Pure.

A new kind needs its entry here and its key in `labctl.scenario.language`; if no existing function can run it, also a
function in `labctl.checks.runner`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.core.resources import IP
from labctl.core.scenario_types import Check, Expect, See
from labctl.core.sentence import Sentence, joined, listed, one_of, sentence, sentence_n
from labctl.core.text import count

CONNECTIONS_PER_MACHINE, MAX_DEFAULT_CONNECTIONS = 200, 2000  # of a check of balancing
STICKY_CONNECTIONS = 40  # of a check that one machine answers all
MAX_CONNECTIONS = 20000
MAX_PAIRS = 40_000  # of a mesh that is not sampled: all pairs of 200 pods; two seconds on one core of 2024
HTTP_PORT, HTTP_OK = 80, 200
ANY = sentence("any")
CAPTURE_S = 3  # seconds that an advised capture lasts: it starts a second before the probe


@dataclass(frozen=True, slots=True)
class ProbeKind:
    """One kind of probe. The methods for text take a check of this kind."""

    name: str  # `Check.probe`, as JSON documents publish it
    key: str  # its key in a check of a scenario file; "" if a file cannot ask for it
    expects: tuple[Expect, ...] = ("reply",)  # the results that a check can expect
    check_keys: tuple[str, ...] = ()  # the keys of a check that apply only to some kinds, and to this one
    endpoints: tuple[str, ...] = ()  # the fields of a check in which its author names a machine or a target
    needed_keys: tuple[str, ...] = ()  # the keys of a check that this kind needs

    @property
    def has_path(self) -> bool:
        """Whether one machine sends it to one target, so that taps on the path see its packets."""
        return "target" in self.endpoints

    def fields(self, value: Any, pods: tuple[str, ...]) -> dict[str, Any]:
        """The fields of a check from the value that the key has in a file; `pods` are those of the scenario."""
        raise NotImplementedError(self.name)

    def problem(self, pods: tuple[str, ...]) -> tuple[str, str] | None:
        """Why a scenario with these pods cannot have such a check, and a hint; None if it can."""
        return None

    def sentence(self, check: Check) -> str:
        """The sentence of a check without `say`."""
        raise NotImplementedError(self.name)

    def argument(self, check: Check) -> str:
        """The value of the key, as a file writes it."""
        raise NotImplementedError(self.name)

    def line(self, check: Check) -> str:
        """The probe in one line, for lists and for the search of `check -k`."""
        size = f" size {check.size}" if check.size is not None else ""
        return f"{self.key} {self.argument(check)}{size}"

    def plan_line(self, check: Check) -> str:
        """The line in a plan: the probe, and what is special about it."""
        size = "" if check.size is None else f", size {check.size}"
        words = (size, _held_text(check), _answered_text(check), _expect_text(check))
        return f"{self.key} {self.argument(check)}{''.join(words)}"

    def page_cell(self, check: Check) -> str:
        """The probe in a table of the documentation, as Markdown."""
        words = (_held_text(check), _expect_text(check), _answered_text(check))
        return f"`{self.key}: {self.argument(check)}`{''.join(words)}"

    def command(self, check: Check, address: IP | None = None) -> str:
        """The arguments of labctl with which a person sends the same probe; `address` is the target's."""
        raise NotImplementedError(self.name)

    def ip_protocol(self, version: int) -> str:
        """Its IP protocol, as `iptables -p` names it."""
        return self.name


class _PacketProbe(ProbeKind):
    """A probe from one machine to one target. Its key reads as a source with its port or None, and a target with its
    port or None."""

    def fields(self, value: Any, pods: tuple[str, ...]) -> dict[str, Any]:
        (source, sport), (target, port) = value
        return {"source": source, "sport": sport, "target": str(target), "port": port}

    def sentence(self, check: Check) -> str:
        template = {
            "reply": sentence("{source} reaches {target}", source=check.source, target=check.target),
            "fail": sentence("{source} does not reach {target}", source=check.source, target=check.target),
            "refused": sentence("{target} refuses {source}", source=check.source, target=check.target),
            "timeout": sentence("{source} gets no answer from {target}", source=check.source, target=check.target),
        }
        claim = template[check.expect]
        if check.port is not None:
            claim = sentence("{claim} on {protocol} port {port}", claim=claim, protocol=self.name, port=check.port)
            claim = _with_held(_with_sport(claim, check), check)
        elif check.size is not None:
            claim = sentence("{claim} with {size} bytes", claim=claim, size=check.size)
        return _with_sees(claim, check)

    def argument(self, check: Check) -> str:
        source, target = (
            name if port is None else f"{name}:{port}"
            for name, port in ((check.source, check.sport), (check.target, check.port))
        )
        return f"{source} -> {target}"

    def command(self, check: Check, address: IP | None = None) -> str:
        listens = check.listen and check.expect != "refused" and check.server is None
        sport = "" if check.sport is None else f" --sport {check.sport}"
        return f"trace {check.source} {address} --{self.name} {check.port}{sport}" + (" --listen" if listens else "")


class _Ping(_PacketProbe):
    def command(self, check: Check, address: IP | None = None) -> str:
        size = "" if check.size is None else f"-M do -s {check.size} "
        return f"exec {check.source} -- ping -n -c 1 {size}{address}"

    def ip_protocol(self, version: int) -> str:
        return "icmp" if version == 4 else "ipv6-icmp"


class _Balance(ProbeKind):
    """Many connections to an address with several servers behind it. Its key reads as a source with its port or None, a
    target with its port, and a protocol."""

    @property
    def has_path(self) -> bool:
        return False  # the answers are the evidence, not the packets

    def fields(self, value: Any, pods: tuple[str, ...]) -> dict[str, Any]:
        source, target, listening = value
        return {"source": source, "target": str(target), "port": listening.port, "protocol": listening.protocol}

    def sentence(self, check: Check) -> str:
        weights = len({weight for _, weight in check.answered_by}) > 1
        names = [f"{name} ({weight})" if weights else name for name, weight in check.answered_by]
        end, who = f"{check.target}:{self._port(check)}", listed(names or [""])
        if len(names) > 1 and not check.sticky:
            claim = sentence(
                "connections from {source} to {target} are balanced over {machines}",
                source=check.source,
                target=end,
                machines=who,
            )
            saw = sentence("{claim}, which see {clients}", claim=claim, clients=one_of(check.saw or [""]))
            return saw if check.saw else claim
        if check.sticky:
            who = sentence("one of {machines}", machines=who)
        claim = sentence(
            "{machine} answers all connections from {source} to {target}",
            machine=who,
            source=check.source,
            target=end,
        )
        saw = sentence("{claim}, and sees {clients}", claim=claim, clients=one_of(check.saw or [""]))
        return saw if check.saw else claim

    def argument(self, check: Check) -> str:
        return f"{check.source} -> {check.target}:{self._port(check)}"

    def plan_line(self, check: Check) -> str:
        shares = (name if weight == 1 else f"{name} ({weight})" for name, weight in check.answered_by)
        parts = [f"answered by {', '.join(shares)}"]
        parts += [f"saw {', '.join(check.saw)}"] if check.saw else []
        parts += [f"{check.connections} connections"] if check.connections is not None else []
        parts += ["sticky"] if check.sticky else []
        parts += [f"host {check.host}"] if check.host else []
        return ", ".join((self.line(check), *parts))

    def page_cell(self, check: Check) -> str:
        return f"`{self.key}: {self.argument(check)}`, answered by {', '.join(name for name, _ in check.answered_by)}"

    def command(self, check: Check, address: IP | None = None) -> str:
        if check.protocol == "udp":
            return f"trace {check.source} {address} --udp {check.port}"
        host = f" -H 'Host: {check.host}'" if check.host else ""
        url = f"http://[{address}]" if address is not None and address.version == 6 else f"http://{address}"
        return f"exec {check.source} -- curl -s -H 'Accept: application/json'{host} {url}:{check.port}{check.path}"

    def _port(self, check: Check) -> str:
        return f"{check.port}" + ("" if check.protocol == "tcp" else f"/{check.protocol}")


class _Http(_PacketProbe):
    """One HTTP request. Its key reads as a source, a target, a port and a path. The target is the host, unless the
    key `host` gives another one."""

    def fields(self, value: Any, pods: tuple[str, ...]) -> dict[str, Any]:
        source, target, port, path = value
        return {"source": source, "target": str(target), "port": port, "path": path}

    def sentence(self, check: Check) -> str:
        source, url = check.source, self._url(check)
        if check.status != HTTP_OK:
            claim = sentence("{source} gets status {status} for {url}", source=source, status=check.status, url=url)
        elif check.answered_by:
            who = one_of(name for name, _ in check.answered_by)
            claim = sentence("{machine} answers {source} for {url}", machine=who, source=source, url=url)
        else:
            claim = sentence("{source} gets {url}", source=source, url=url)
        if check.saw:
            claim = sentence("{claim}, and sees {clients} as the client", claim=claim, clients=one_of(check.saw))
        if check.forwarded_for:
            claim = sentence("{claim}, with {address} in X-Forwarded-For", claim=claim, address=check.forwarded_for)
        return _with_sees(claim, check)

    def argument(self, check: Check) -> str:
        return f"{check.source} -> {self._url(check)}"

    def plan_line(self, check: Check) -> str:
        parts = [] if check.status == HTTP_OK else [f"status {check.status}"]
        parts += [f"answered by {' or '.join(name for name, _ in check.answered_by)}"] if check.answered_by else []
        parts += [f"who sees {' or '.join(check.saw)}"] if check.saw else []
        parts += [f"forwarded for {check.forwarded_for}"] if check.forwarded_for else []
        return ", ".join((self.line(check), *parts))

    def command(self, check: Check, address: IP | None = None) -> str:
        host = f"[{address}]" if address is not None and address.version == 6 else f"{address}"
        port = "" if check.port == HTTP_PORT else f":{check.port}"
        headers = f"-H 'Accept: application/json' -H 'Host: {http_host(check)}'"
        return f"exec {check.source} -- curl -si {headers} http://{host}{port}{check.path}"

    def ip_protocol(self, version: int) -> str:
        return "tcp"

    def _url(self, check: Check) -> str:
        return f"{http_host(check)}{check.path}"


class _Mesh(ProbeKind):
    """Pings between all pods. Its key reads as the word `pods` or `containers`, which means all of them."""

    def fields(self, value: Any, pods: tuple[str, ...]) -> dict[str, Any]:
        return {"groups": ((pods, pods),)}

    def problem(self, pods: tuple[str, ...]) -> tuple[str, str] | None:
        return ("a mesh needs at least two pods", f"here: {len(pods)}") if len(pods) < 2 else None

    def sentence(self, check: Check) -> str:
        return sentence("every pod reaches every pod and is seen with its own address")

    def argument(self, check: Check) -> str:
        return ", ".join(f"{' '.join(sources)} -> {' '.join(targets)}" for sources, targets in check.groups)

    def plan_line(self, check: Check) -> str:
        pairs = sum(len(sources) * len(targets) - len({*sources} & {*targets}) for sources, targets in check.groups)
        asked = ", all asked" if check.pairs == "all" else ""
        return f"mesh of {len(check.groups)} group{'s' if len(check.groups) != 1 else ''}, {pairs} pairs{asked}"

    def page_cell(self, check: Check) -> str:
        return "every pair"

    def command(self, check: Check, address: IP | None = None) -> str:
        return PROBE_KINDS["ping"].command(check, address)


class _PortInUse(ProbeKind):
    """A port that no other process can listen on. Its key reads as a machine and a `ListeningPort`."""

    def fields(self, value: Any, pods: tuple[str, ...]) -> dict[str, Any]:
        machine, listen = value
        return {"source": machine, "target": machine, "port": listen.port, "protocol": listen.protocol}

    def sentence(self, check: Check) -> str:
        return sentence("port {port} of {node} is in use", port=self._port(check), node=check.source)

    def argument(self, check: Check) -> str:
        return f"{check.source}:{self._port(check)}"

    def command(self, check: Check, address: IP | None = None) -> str:
        return f"exec {check.source} -- ss -Hln{check.protocol[0]}p sport = :{check.port}"

    def _port(self, check: Check) -> str:
        return f"{check.port}" + ("" if check.protocol == "tcp" else f"/{check.protocol}")


class _CniCheck(ProbeKind):
    """CHECK of the CNI plugins that attached the pods. Only models ask for it."""

    def line(self, check: Check) -> str:
        return "CNI CHECK of every pod"

    def plan_line(self, check: Check) -> str:
        return self.line(check)

    def page_cell(self, check: Check) -> str:
        return "CHECK of every pod"


_SEE_KEYS = ("see", "not see", "via")
_ENDS = ("source", "target")
_BALANCE_KEYS = ("answered_by", "saw", "connections", "sticky", "host", "path")
_HTTP_KEYS = ("answered_by", "saw", "host", "status", "forwarded_for")
_PORT_EXPECTS: tuple[Expect, ...] = ("reply", "refused", "timeout")
PROBE_KINDS: dict[str, ProbeKind] = {
    kind.name: kind
    for kind in (
        _Ping("ping", "ping", ("reply", "fail"), ("size", *_SEE_KEYS), _ENDS),
        _PacketProbe("tcp", "tcp", _PORT_EXPECTS, ("listen", "while_open", *_SEE_KEYS), _ENDS),
        _PacketProbe("udp", "udp", _PORT_EXPECTS, ("listen", *_SEE_KEYS), _ENDS),
        _Http("http", "http", ("reply",), (*_HTTP_KEYS, *_SEE_KEYS), _ENDS),
        _Balance("balance", "balance", ("reply",), _BALANCE_KEYS, _ENDS, ("answered_by",)),
        _Mesh("mesh", "mesh", check_keys=("pairs",)),
        _PortInUse("taken", "port_in_use", endpoints=("source",)),
        _CniCheck("cni", ""),
    )
}
PROBE_KEYS = tuple(kind.key for kind in PROBE_KINDS.values() if kind.key)  # in a file, a check has exactly one of them


def probe_kind(check: Check) -> ProbeKind:
    """The kind of a check's probe."""
    return PROBE_KINDS[check.probe]


def http_host(check: Check) -> str:
    """The header `Host` of an HTTP request: the target, as its author wrote it, or what the key `host` says."""
    target = f"[{check.target}]" if ":" in check.target else check.target
    return check.host or (target if check.port == HTTP_PORT else f"{target}:{check.port}")


def connection_count(check: Check) -> int:
    """How many connections a check of balancing makes. By default so many that a machine that gets half of its share
    is found."""
    if check.connections is not None:
        return check.connections
    machines = len(check.answered_by)
    if check.sticky or machines < 2:
        return STICKY_CONNECTIONS
    return min(CONNECTIONS_PER_MACHINE * machines, MAX_DEFAULT_CONNECTIONS)


def equivalent_command(labctl: str, check: Check, address: IP | None = None) -> str:
    """The commands that a person types to see the same: a capture at the points of `see:`, then the probe.

    `labctl` is the command before a verb. A trace shows all points itself.
    """
    probe = f"{labctl} {probe_kind(check).command(check, address)}"
    points = " ".join(dict.fromkeys(str(see.at) for see in check.sees))
    if not points or check.probe != "ping":
        return probe
    return f"{labctl} capture {points} --seconds {CAPTURE_S} & sleep 1; {probe}"


def probe_text(check: Check) -> str:
    """The probe in one line: `ping a -> c`, `ping a -> c size 1422`, `tcp a -> c:8080`, `mesh a -> b c`."""
    return probe_kind(check).line(check)


def _with_sport(claim: Sentence, check: Check) -> Sentence:
    return claim if check.sport is None else sentence("{claim} from source port {port}", claim=claim, port=check.sport)


def _expect_text(check: Check) -> str:
    return "" if check.expect == "reply" else f", expect {check.expect}"


def _held_text(check: Check) -> str:
    held = check.while_open
    if held is None:
        return ""
    ends = (
        ""
        if (held.source, held.target, held.port) == (check.source, check.target, check.port)
        else (f" ({held.source} -> {held.target}:{held.port})")
    )
    return f", {count(held.count, 'connection')} open before{ends}"


def _with_held(claim: Sentence, check: Check) -> Sentence:
    held = check.while_open
    if held is None:
        return claim
    others: Sentence = sentence_n("{number} other connection", "{number} other connections", held.count)
    if held.source != check.source:
        others = sentence("{connections} of {source}", connections=others, source=held.source)
    if (held.target, held.port) != (check.target, check.port):
        others = sentence(
            "{connections} to {target} port {port}", connections=others, target=held.target, port=held.port
        )
    if held.count == 1:
        return sentence("{claim} while {connections} is open", claim=claim, connections=others)
    return sentence("{claim} while {connections} are open", claim=claim, connections=others)


def _answered_text(check: Check) -> str:
    return "" if check.server is None else f", answered by {check.server[0]}:{check.server[1]}"


def _with_sees(claim: Sentence, check: Check) -> Sentence:
    for see in check.sees:
        words = {"claim": claim, "seen": _seen(see)}
        claim = {
            "request": sentence("{claim}, {seen}", **words),
            "reply": sentence("{claim}, its reply {seen}", **words),
            "arp": sentence("{claim}, a neighbour request {seen}", **words),
        }[see.packet]
    return claim


def _seen(see: See) -> Sentence:
    """Where a packet is seen or not, and how."""
    text = sentence("not seen at {point}", point=see.at) if see.negate else sentence("seen at {point}", point=see.at)
    parts: list[Any] = [text]
    if see.src or see.dst:
        parts.append(sentence("as {src} > {dst}", src=see.src or ANY, dst=see.dst or ANY))
    if see.sport is not None:
        parts.append(sentence("from port {port}", port=see.sport))
    if see.ttl:
        parts.append(sentence("with ttl {ttl}", ttl=see.ttl))
    if see.encap:
        parts.append(sentence("without a tunnel") if see.encap == "none" else sentence("in {tunnel}", tunnel=see.encap))
    if see.outer_src or see.outer_dst:
        ends = {"src": see.outer_src or ANY, "dst": see.outer_dst or ANY}
        parts.append(sentence("in a tunnel {src} > {dst}", **ends))
    if see.direction:
        parts.append(sentence("entering") if see.direction == "in" else sentence("leaving"))
    return joined(" ", parts)
