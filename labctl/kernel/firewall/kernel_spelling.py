"""The spelling in which the kernel's tools print rules, found by asking them.

A rule has many spellings, and only one of them is printed. labctl's own parser knows the forms that real systems use
(`labctl.core.iptables_forms`); a scenario may contain any other. So when a lab seems to differ from its plan, the
wanted chains are written into a namespace that is thrown away, and what is read back there is what the lab should have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from labctl.core.diff import Change
from labctl.core.iptables import Backend
from labctl.core.nft_references import device_names
from labctl.core.resources import Chain, Interface, IpSet, Link, NftObject
from labctl.kernel.firewall.chains import read_chains, write
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.kernel.netlink import ipset, messages
from labctl.kernel.netlink.rtnetlink import Channel


def kernel_spelling(
    chains: Iterable[Chain], sets: Iterable[IpSet] = (), backend: Backend = "legacy"
) -> dict[tuple[Any, ...], Chain]:
    """The chains in the spelling of the tools, by key.

    Give all chains of a namespace together, since rules jump from one to the other, and the sets that they match.
    A chain that was not printed, or with another number of rules, is left out: it is not the same chain. Raises
    KernelError for a rule that is not valid.
    """
    wanted: dict[str, list[Chain]] = {}
    for chain in chains:
        wanted.setdefault(chain.ns, []).append(chain)
    empty_sets = [replace(one, members=()) for one in sets]
    printed: dict[tuple[Any, ...], Chain] = {}
    for ns, here in wanted.items():
        with NetnsThread() as inside:
            sets_here = [one for one in empty_sets if one.ns == ns]
            for chain in inside.run(None, _write_and_read, ns, here, sets_here, backend):
                printed[chain.key] = chain
    return {
        chain.key: printed[chain.key]
        for here in wanted.values()
        for chain in here
        if chain.key in printed and len(printed[chain.key].rules) == len(chain.rules)
    }


def _write_and_read(ns: str, chains: list[Chain], sets: list[IpSet], backend: Backend) -> tuple[Chain, ...]:
    """In a new namespace, which ends with this thread: write the chains, and read all there are."""
    unshare(CLONE_NEWNET)
    if sets:
        ipset.write(ns, [Change(one, None) for one in sets])
    write(ns, [Change(chain, None) for chain in chains], None, backend)
    return tuple(one for one in read_chains(ns, chains, backend) if isinstance(one, Chain))


def nft_spelling(ns: str, objects: Iterable[NftObject]) -> dict[tuple[Any, ...], NftObject]:
    """All objects of nft of one namespace in the spelling of this machine's nft, by key.

    The devices that they name are there, too. An object that is not printed, or with another number of rules, is left
    out. Raises KernelError for a text that nft refuses.
    """
    wanted = tuple(objects)
    with NetnsThread() as inside:
        found = inside.run(None, _write_and_list, ns, wanted)
    return {
        item.key: spelled
        for item in wanted
        if (spelled := found.get(item.key)) is not None
        and (item.kind != "chain" or len(spelled.entries) == len(item.entries))
    }


def _write_and_list(ns: str, objects: tuple[NftObject, ...]) -> dict[tuple[Any, ...], NftObject]:
    """In a new namespace, which ends with this thread: write the objects, and read all there are."""
    unshare(CLONE_NEWNET)
    create_devices(objects)
    write(ns, [Change(item, None) for item in objects])
    return {one.key: one for one in read_chains(ns, objects) if isinstance(one, NftObject)}


def create_devices(objects: Iterable[NftObject]) -> None:
    """Create the devices that objects of nft name, as bridges, in this thread's namespace."""
    lines = {line for item in objects for line in (*item.header, *item.entries) if "if " in line or "device" in line}
    names = sorted({name for line in lines for name in device_names(line)} - {"lo"})
    if not names:
        return
    channel = Channel()
    try:
        for name in names:  # the kernel chooses their numbers: its modules for tunnels have devices in each namespace
            link = Link(Interface("", name), "bridge")
            channel.queue(messages.create_link(link, None, 0, 0, None, lambda dev: 0), name)
        channel.flush()
    finally:
        channel.close()
