"""Ask nft and the kernel whether they accept tables, in a namespace that is thrown away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from labctl.core.nft_refusals import NftRefusal, refusals
from labctl.core.nft_ruleset import input_text
from labctl.core.resources import NftObject
from labctl.kernel.firewall import commands
from labctl.kernel.firewall.kernel_spelling import create_devices
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare

MAX_ROUNDS = 12


def find_refusals(objects: Iterable[NftObject]) -> tuple[NftRefusal, ...]:
    """Why the objects of one namespace cannot be written; none if they can. The devices that they name are there.

    Raises MissingError without the program nft, KernelError and PermissionError if no namespace can be created.
    """
    wanted = tuple(objects)
    commands.find("nft")
    with NetnsThread() as inside:
        found: tuple[NftRefusal, ...] = inside.run(None, _try_all, wanted)
    return found


def _try_all(wanted: tuple[NftObject, ...]) -> tuple[NftRefusal, ...]:
    """All refusals: nft says what it cannot parse first, then what has no sense, then what the kernel does not have; so
    the refused lines are left out, and the rest is tried again."""
    unshare(CLONE_NEWNET)
    create_devices(wanted)
    found: list[NftRefusal] = []
    for _ in range(MAX_ROUNDS):
        refused = _try(wanted)
        found += refused
        lines = {(one.item.key, one.line) for one in refused if one.item is not None and one.line in one.item.entries}
        if not lines:
            break
        wanted = tuple(_without(item, {line for key, line in lines if key == item.key}) for item in wanted)
    return tuple(found)


def _try(wanted: tuple[NftObject, ...]) -> tuple[NftRefusal, ...]:
    """What nft refuses of a text. After the first syntax error, it takes the lines that follow for something else."""
    script = input_text(wanted)
    done = commands.run([commands.find("nft"), "-f", "-"], script)
    refused = refusals(script, done.stderr, wanted) if done.returncode else ()
    return refused[:1] if any(one.reason.startswith("syntax error") for one in refused) else refused


def _without(item: NftObject, lines: set[str]) -> NftObject:
    return replace(item, entries=tuple(one for one in item.entries if one not in lines)) if lines else item
