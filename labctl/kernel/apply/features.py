"""Find out whether this kernel has a feature by using it, in a temporary network namespace."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Sequence

from labctl.core.features import UNKNOWN_TO_NFT
from labctl.core.iptables import Backend
from labctl.core.nft_features import is_nft_feature, sample
from labctl.core.resources import Interface, Link
from labctl.errors import MissingError
from labctl.kernel.firewall import commands, nft_program
from labctl.kernel.host import tun
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.kernel.netlink import dump, messages, nft_tables
from labctl.kernel.netlink.link_options import read_options
from labctl.kernel.netlink.rtnetlink import Channel, encode_attribute

_OPTIONS = {  # the options without which a kind cannot be created, in iproute2's words; `low` is a lower device
    "vlan": (("dev", "low"), ("id", "7")),
    "macvlan": (("dev", "low"), ("mode", "bridge")),
    "ipvlan": (("dev", "low"),),
    "vxlan": (("id", "42"), ("dstport", "4789")),
}
_LOOPBACK, _LOWER, _LINK = 1, 7001, 7003  # indexes
_GETLINK = 18
_ifinfo = struct.Struct("=BxHiII")


def missing_features(features: Iterable[str], backend: Backend = "legacy") -> dict[str, str]:
    """Those of the features that this kernel does not have, each with the kernel's reason. A feature is a kind of link,
    a match or target (`-m set`, `-j NFLOG`) of the given firewall backend, or a part of nftables (`nft fib`). Raises
    MissingError if the program nft is not installed and needed.

    Load their modules first (`modules.ensure`). Otherwise the kernel loads them itself, and labctl cannot report it.
    """
    with NetnsThread() as thread:
        return thread.run(None, _find_missing, tuple(features), backend)


def is_known_link_kind(kind: str) -> bool:
    """Whether the kernel knows a kind of link now; the request does not load a module.

    It is a dump of all links of that kind. If the kernel does not know the kind, it ignores the filter, and the reply
    contains the loopback device, too.
    """
    name = encode_attribute(1, kind.encode() + b"\0")  # IFLA_INFO_KIND
    channel = Channel()
    try:
        found = [_ifinfo.unpack_from(data, start) for data, start, _ in channel.dump(
            _GETLINK, _ifinfo.pack(0, 0, 0, 0, 0) + encode_attribute(18, name)
        )]  # fmt: skip
    finally:
        channel.close()
    return all(index != _LOOPBACK for _, _, index, _, _ in found)


def try_link(feature: str) -> str:
    """Create a link of a kind in this thread's namespace and remove it. Returns why that is not possible, or "".

    `feature` is the kind, with an option that is tried too. A kernel that does not know the option refuses it or
    ignores it. If the kernel only refuses because options are missing, it has the kind.
    """
    kind, _, option = feature.partition(" ")
    if kind == "tun":
        return _try_tun()
    channel = Channel()
    try:
        if needs_lower_device(kind):
            low = Link(Interface("", "low"), "veth"), Link(Interface("", "low2"), "veth")
            channel.queue(messages.create_link(*low, _LOWER, _LOWER + 1, None, lambda dev: _LOWER), "low")
        options = (*_OPTIONS.get(kind, ()), *([(option, "1")] if option else []))
        link = Link(Interface("", "tried"), kind, options=options)
        channel.queue(messages.create_link(link, None, _LINK, 0, None, lambda dev: _LOWER), kind)
        refused = {refusal.tag: refusal for refusal in channel.flush()}
        ignored = option and kind not in refused and (option, "1") not in _observed_options(channel)
        for index in (_LINK, _LOWER):  # if they exist
            channel.queue(messages.delete_link(index), index)
        channel.flush()
    finally:
        channel.close()
    refusal = refused.get(kind)
    supported = refusal is None or refusal.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
    return "the kernel does not know it" if ignored else "" if supported else str(refusal)


def _observed_options(channel: Channel) -> tuple[tuple[str, str], ...]:
    """The options of the link that was tried, as the kernel reports them."""
    for link in dump.links(channel):
        if link.index == _LINK and link.info_data is not None:
            return read_options(link.kind, *link.info_data, str)
    return ()


def needs_lower_device(kind: str) -> bool:
    """Whether a link of this kind needs a lower device, for which a veth pair is created."""
    return ("dev", "low") in _OPTIONS.get(kind, ())


def _try_tun() -> str:
    """The same for a TUN device, which is gone as soon as no process has it open."""
    try:
        os.close(tun.open_tun("tried"))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _find_missing(features: tuple[str, ...], backend: Backend) -> dict[str, str]:
    unshare(CLONE_NEWNET)
    extension = _extension_problem if backend == "legacy" else nft_tables.extension_problem
    of_nft = [feature for feature in features if is_nft_feature(feature)]
    problems = {
        feature: extension(feature) if feature.startswith("-") else try_link(feature)
        for feature in features
        if not is_nft_feature(feature)
    } | nft_problems(of_nft)
    return {feature: problem for feature, problem in problems.items() if problem}


def nft_problems(features: Sequence[str]) -> dict[str, str]:
    """Those of these features of nftables that cannot be used in this thread's namespace, each with the reason. All are
    tried at once, and only if that fails one by one. Raises MissingError without the program nft."""
    if not features:
        return {}
    try:
        program = commands.find("nft")
    except MissingError:
        raise MissingError("this lab has tables of nft, and nft is not installed", nft_program.HINT) from None
    samples = {feature: sample(feature) for feature in features}
    together = "".join(
        f"{text}\n".replace(" labctl ", f" labctl{number} ") for number, text in enumerate(samples.values())
    )
    if commands.run([program, "-f", "-"], together).returncode == 0:
        return {}
    found: dict[str, str] = {}
    for feature, text in samples.items():
        table = " ".join(text.split(maxsplit=3)[1:3])
        done = commands.run([program, "-f", "-"], f"{text}\ndelete table {table}\n")
        if done.returncode:
            first = done.stderr.strip().partition("\n")[0]
            reason = first.rpartition("Error: ")[2].removeprefix("Could not process rule: ")
            unknown = "syntax error" in reason or "unexpected" in reason
            found[feature] = UNKNOWN_TO_NFT if unknown else reason or "nft failed without a reason"
    return found


def _extension_problem(feature: str) -> str:
    """Why the kernel lacks a match or target of legacy iptables, or "". The kernel lists those that it has. If there
    are no such lists, it has no legacy iptables at all; this function does not report that."""
    kind = "matches" if feature.startswith("-m ") else "targets"
    candidates = [f"/proc/thread-self/net/{family}_tables_{kind}" for family in ("ip", "ip6")]
    lists = [path for path in candidates if os.path.exists(path)]
    names: set[str] = set()
    for path in lists:
        with open(path) as file:
            names.update(file.read().split())
    return "" if not lists or feature.split()[1] in names else "the kernel does not list it"
