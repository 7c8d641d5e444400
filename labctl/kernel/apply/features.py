"""Whether this kernel has a feature, found by using it: in a network namespace that is thrown away at once."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable

from labctl.core.iptables import Backend
from labctl.core.resources import Link, Port
from labctl.kernel.host import tun
from labctl.kernel.namespaces.thread import CLONE_NEWNET, Inside, unshare
from labctl.kernel.netlink import messages, nft_tables
from labctl.kernel.netlink.rtnetlink import Channel, packed

_OPTIONS = {  # what a kind cannot be made without, in iproute2's words; `low` is a device to lie upon
    "vlan": (("dev", "low"), ("id", "7")),
    "macvlan": (("dev", "low"), ("mode", "bridge")),
    "ipvlan": (("dev", "low"),),
    "vxlan": (("id", "42"), ("dstport", "4789")),
}
_LOOPBACK, _LOW, _LINK = 1, 7001, 7003  # indexes
_GETLINK = 18
_ifinfo = struct.Struct("=BxHiII")


def lacking(features: Iterable[str], backend: Backend = "legacy") -> dict[str, str]:
    """Those of the features that this kernel does not have, each with the kernel's words; matches and targets are
    those of a back end.

    Load their modules first (`modules.ensure`): what the kernel would load by itself nobody would be told of.
    """
    with Inside() as inside:
        return inside.run(None, _lacking, tuple(features), backend)


def known(kind: str) -> bool:
    """Whether the kernel has a kind of link by now; asking loads nothing. It is asked for all links of that kind: one
    that it does not know it takes for no kind at all, and tells the loopback device, too."""
    name = packed(1, kind.encode() + b"\0")  # IFLA_INFO_KIND
    channel = Channel()
    try:
        found = [_ifinfo.unpack_from(data, start) for data, start, _ in channel.dump(
            _GETLINK, _ifinfo.pack(0, 0, 0, 0, 0) + packed(18, name)
        )]  # fmt: skip
    finally:
        channel.close()
    return all(index != _LOOPBACK for _, _, index, _, _ in found)


def try_link(kind: str) -> str:
    """Make a link of a kind in the namespace of this thread, and remove it: why that cannot be, or "".

    A kind that the kernel knows and wants to be told more of is one that it has.
    """
    if kind == "tun":
        return _try_tun()
    channel = Channel()
    try:
        if lies(kind):
            low = Link(Port("", "low"), "veth"), Link(Port("", "low2"), "veth")
            channel.queue(messages.create_link(*low, _LOW, _LOW + 1, None, lambda dev: _LOW), "low")
        made = Link(Port("", "tried"), kind, options=_OPTIONS.get(kind, ()))
        channel.queue(messages.create_link(made, None, _LINK, 0, None, lambda dev: _LOW), kind)
        refused = {refusal.tag: refusal for refusal in channel.flush()}
        for index in (_LINK, _LOW):  # if they are there
            channel.queue(messages.delete_link(index), index)
        channel.flush()
    finally:
        channel.close()
    refusal = refused.get(kind)
    known = refusal is None or refusal.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
    return "" if known else str(refusal)


def lies(kind: str) -> bool:
    """Whether a link of this kind lies upon another device, for which a cable is made."""
    return ("dev", "low") in _OPTIONS.get(kind, ())


def _try_tun() -> str:
    """The same for a TUN device, which goes as soon as nobody holds it."""
    try:
        os.close(tun.attach("tried"))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _lacking(features: tuple[str, ...], backend: Backend) -> dict[str, str]:
    unshare(CLONE_NEWNET)
    extension = _extension if backend == "legacy" else nft_tables.extension
    found = {feature: extension(feature) if feature.startswith("-") else try_link(feature) for feature in features}
    return {feature: why for feature, why in found.items() if why}


def _extension(feature: str) -> str:
    """Why a match or target of iptables is not there, or "": the kernel lists those that it has. A kernel that
    lists none has no legacy iptables at all, which is not for this feature to say."""
    listed = [
        f"/proc/thread-self/net/{family}_tables_{'matches' if feature[1] == 'm' else 'targets'}"
        for family in ("ip", "ip6")
    ]
    lists = [path for path in listed if os.path.exists(path)]
    names: set[str] = set()
    for path in lists:
        with open(path) as file:
            names.update(file.read().split())
    return "" if not lists or feature[3:] in names else "the kernel does not list it"
