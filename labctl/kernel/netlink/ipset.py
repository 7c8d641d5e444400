"""Read, create and change the IP sets of a namespace over netfilter's netlink, in pyroute2's encoding.

`read_sets` and `write` act on the namespace of the calling thread; no program is started. Sets are created before the
rules that match them and removed after those rules, because the kernel refuses to remove a set that is in use.
"""

from __future__ import annotations

import importlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from labctl.core.ipset_members import PORT_PROTOCOLS, SetMember, parse_member
from labctl.core.resources import IpSet
from labctl.errors import KernelError
from labctl.kernel.netlink.encoding import CREATE, EXCL, message_class
from labctl.kernel.netlink.nfnetlink import HEADER_BYTES, NFNL_SUBSYS_IPSET, NfnetlinkSocket
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes

if TYPE_CHECKING:
    from labctl.core.diff import Change

_PROTOCOL = 6
_CREATE, _DESTROY, _LIST, _ADD, _DEL = (NFNL_SUBSYS_IPSET << 8 | number for number in (2, 3, 7, 9, 10))
_SETNAME, _TYPENAME, _FAMILY, _ADT, _DATA, _IP, _CIDR = 2, 3, 5, 8, 7, 1, 3
_PORT, _PROTO, _CADT_FLAGS = 4, 7, 8  # attributes of a member
_NOMATCH = 1 << 2  # IPSET_FLAG_NOMATCH
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_MAXELEM = {"hash:net": 1048576, "hash:ip": 1048576, "hash:ip,port": 1048576}
# the first revision of the type with all that members have here: ipset(8) reads a set by the set's revision
_REVISIONS = {"hash:net": 2, "hash:ip,port": 1}
_PROTOCOL_NAMES = {number: name for name, number in PORT_PROTOCOLS.items()}
_ERRORS = {4097: "another protocol version", 4098: "no such set type", 4101: "a set of that name exists already",
           4102: "the set has another type", 4103: "the member exists already, or does not exist",
           4104: "a prefix length that the set cannot hold", 4108: "rules use it"}  # fmt: skip


def read_sets(ns: str) -> tuple[IpSet, ...]:
    """Every set of this thread's namespace, with `ns` as the name of the namespace."""
    try:
        if is_loaded():
            with NfnetlinkSocket() as sock:
                return read(sock, ns)
    except OSError:
        pass
    return ()


def is_loaded() -> bool:
    """Whether the kernel has ip_set now. Without it there are no sets; a request would load it."""
    return os.path.exists("/sys/module/ip_set")


def read(sock: NfnetlinkSocket, ns: str) -> tuple[IpSet, ...]:
    """Every set of the namespace of a socket, with `ns` as its name. Raises OSError for the socket."""
    members: dict[str, tuple[str, str, list[str]]] = {}
    for data, start, end in sock.dump(_LIST, _list_request()):
        found = attributes(data, start + 4, end)
        if _SETNAME in found:
            name = attribute_text(data, found[_SETNAME])
            kind = attribute_text(data, found[_TYPENAME]) if _TYPENAME in found else ""
            six = _FAMILY in found and data[found[_FAMILY][0]] == socket.AF_INET6
            known = members.setdefault(name, (kind, "inet6" if six else "inet", []))[2]
            known += _members(data, *found[_ADT], kind) if _ADT in found else ()
    return tuple(IpSet(ns, name, kind, tuple(sorted(known)), family) for name, (kind, family, known) in members.items())


def write(ns: str, changes: Iterable[Change]) -> None:
    """Create sets and change their members. Removals and changes of other objects are ignored. Raises KernelError."""
    with NfnetlinkSocket() as sock:
        for change in changes:
            want, have = change.want, change.have
            if not isinstance(want, IpSet):
                continue
            old = have if isinstance(have, IpSet) else None
            if old is not None and (old.kind, old.family) != (want.kind, want.family):
                _do(sock, ns, old, _DESTROY, [])
                old = None
            if old is None:
                _do(sock, ns, want, _CREATE, _creation(want))
            before = set(old.members) if old is not None else set()
            for verb, those in ((_ADD, set(want.members) - before), (_DEL, before - set(want.members))):
                for member in sorted(those):
                    _do(sock, ns, want, verb, [("IPSET_ATTR_DATA", {"attrs": _member(member, want.kind)})])


def remove(ns: str, changes: Iterable[Change]) -> None:
    """Destroy the sets that the changes remove. Raises KernelError for a set that rules still use."""
    with NfnetlinkSocket() as sock:
        for change in changes:
            if change.want is None and isinstance(change.have, IpSet):
                _do(sock, ns, change.have, _DESTROY, [])


def _creation(one: IpSet) -> list[tuple[str, Any]]:
    size = [("IPSET_ATTR_HASHSIZE", 1024), ("IPSET_ATTR_MAXELEM", _MAXELEM.get(one.kind, 65536))]
    kind = [
        ("IPSET_ATTR_TYPENAME", one.kind),
        ("IPSET_ATTR_REVISION", _REVISIONS.get(one.kind, 0)),
        ("IPSET_ATTR_FAMILY", int(_FAMILIES[one.family])),
    ]
    return [*kind, ("IPSET_ATTR_DATA", {"attrs": size})]


def _member(member: str, kind: str) -> list[tuple[str, Any]]:
    one = parse_member(member, kind)
    name = f"IPSET_ATTR_IPADDR_IPV{one.network.version}"
    attrs: list[tuple[str, Any]] = [("IPSET_ATTR_IP", {"attrs": [(name, str(one.network.network_address))]})]
    if kind == "hash:net":
        attrs.append(("IPSET_ATTR_CIDR", one.network.prefixlen))
    if one.nomatch:
        attrs.append(("IPSET_ATTR_CADT_FLAGS", _NOMATCH))
    if one.protocol:
        attrs += [("IPSET_ATTR_PORT", one.port), ("IPSET_ATTR_PROTO", PORT_PROTOCOLS[one.protocol])]
    return attrs


def _members(data: bytes, start: int, end: int, kind: str) -> Iterator[str]:
    """The members in one message: a list of nested attributes that all have the same type number."""
    while start + 4 <= end:
        length, _ = struct.unpack_from("=HH", data, start)
        if length < 4:
            return
        found = attributes(data, start + 4, start + length)
        inner = attributes(data, *found[_IP]) if _IP in found else {}
        span = inner.get(1) or inner.get(2)
        if span is not None:
            raw = data[span[0] : span[1]]
            size = data[found[_CIDR][0]] if _CIDR in found else len(raw) * 8
            port, protocol, flags = (_number(data, found.get(one)) for one in (_PORT, _PROTO, _CADT_FLAGS))
            name = _PROTOCOL_NAMES.get(protocol, str(protocol)) if _PROTO in found else ""
            yield str(SetMember(ip_network((raw, size)), name, port, bool(flags & _NOMATCH)))
        start += (length + 3) & ~3


def _number(data: bytes, span: tuple[int, int] | None) -> int:
    return 0 if span is None else int.from_bytes(data[span[0] : span[1]], "big")


def _do(sock: NfnetlinkSocket, ns: str, one: IpSet, command: int, attrs: list[tuple[str, Any]]) -> None:
    body = _body(command, [("IPSET_ATTR_SETNAME", one.name), *attrs])
    code = sock.request(command, body, EXCL | CREATE if command == _CREATE else 0)
    if code:
        verb = {_CREATE: "add", _DESTROY: "remove"}.get(command, "change")
        why = _ERRORS.get(code) or os.strerror(code)
        raise KernelError(f"cannot {verb} ipset {one.name} ({one.kind}) in {ns}: {why}", errno=code)


@cache
def _list_request() -> bytes:
    return _body(_LIST, [])


def _body(command: int, attrs: list[tuple[str, Any]]) -> bytes:
    """The body of a message: pyroute2 encodes the whole message, and the socket makes the header."""
    message = _class()()
    message["nfgen_family"], message["version"], message["res_id"] = int(socket.AF_INET), 0, 0
    message["header"]["type"] = command  # it decides how pyroute2 encodes the attributes
    message["attrs"] = [("IPSET_ATTR_PROTOCOL", _PROTOCOL), *attrs]
    message.encode()
    return bytes(message.data)[HEADER_BYTES:]


def _class() -> Any:
    message_class("rtmsg")  # after this, pyroute2's message modules can be imported without all of pyroute2
    return importlib.import_module("pyroute2.netlink.nfnetlink.ipset").ipset_msg
