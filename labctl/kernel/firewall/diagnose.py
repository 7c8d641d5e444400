"""Why a firewall change was refused: from the tool's message to one error that names the refused rule.

For a rule that the tool cannot parse, the tool reports the line. A rule that only the kernel refuses (MASQUERADE in the
filter table) makes the whole table fail without a reason. Then a binary search in a temporary namespace finds the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from labctl.core.diff import Change
from labctl.core.iptables import FirewallRule, accounting_objects
from labctl.core.iptables_save import RestoreScript, TableEdit, restore_script
from labctl.core.resources import Chain, IpSet
from labctl.errors import KernelError, LabError, MissingError
from labctl.kernel.firewall import commands
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.kernel.netlink import ipset, nfacct

_LINE = re.compile(r"line:? (\d+)")
_PROGRAM = re.compile(r"^(?:[\w./-]+ v[\d.]+ \([\w-]+\): )?(?:[\w-]*tables[\w-]*: )?")
_FAILED = re.compile(r"line \d+ failed(?:: (.*?)\.?)?$")  # newer releases give the reason
_TRANSACTION = re.compile(r"line \d+: \w+ failed \((.*)\): ")  # iptables-nft: the whole transaction was refused
_NOISE = ("Error occurred", "Try `", "#", "Warning")
_NO_KERNEL = ("do you need to insmod", "Perhaps iptables or your kernel", "unable to initialize table")
_LOAD = re.compile(r"Couldn't load (target|match) `(.+?)'")


def explain_refusal(
    tool: commands.FirewallTool, ns: str, table_edits: Sequence[TableEdit], work: RestoreScript, stderr: str
) -> LabError:
    """The error for a failed restore. Call it in the thread and the namespace where the restore failed."""
    found = _LINE.search(stderr)
    number = int(found[1]) if found else 0
    subject = work.subject_of_line(number)
    cause = _cause(stderr)
    if subject is not None and (unsaid := _FAILED.match(cause)):
        going = work.lines[number - 1].startswith("-X")
        cause = "a rule in another chain still jumps to it" if going else unsaid[1] or "the kernel refused it"
    elif subject is None and not _lacks_kernel_support(stderr):
        edit = _edit_at(table_edits, work, number)
        present = commands.run([commands.find(tool.save)]).stdout
        with NetnsThread() as inside:
            sets = ipset.read_sets(ns)
            blamed = inside.run(None, _find_bad_rule, tool, edit, present, sets)
        if blamed is not None:
            subject, cause = blamed
    if subject is None:
        tables = ", ".join(edit.table for edit in table_edits)
        return tool_error(f"cannot write the {tool.command} table {tables} in {ns}", tool, stderr)
    chain, one = subject
    what = f"rule '-A {chain.name} {one}'" if one is not None else f"chain {chain.name}"
    return tool_error(f"cannot write {tool.command} {what} in table {chain.table} of {ns}", tool, stderr, cause)


def tool_error(action: str, tool: commands.FirewallTool, stderr: str, cause: str | None = None) -> LabError:
    """The error for a tool's message: MissingError without root or without tables in the kernel, else KernelError."""
    sentence = f"{action}: {cause or _cause(stderr)}"
    if "Permission denied" in stderr or "must be root" in stderr:
        return MissingError(sentence, "run it with sudo")
    if _lacks_kernel_support(stderr):
        return MissingError(sentence, tool.kernel_hint)
    return KernelError(sentence)


def _lacks_kernel_support(stderr: str) -> bool:
    return any(text in stderr for text in _NO_KERNEL)


def _cause(stderr: str) -> str:
    """The first line of the message that has information, without the program's name."""
    lines = [_PROGRAM.sub("", line).strip() for line in stderr.splitlines() if not line.startswith(_NOISE)]
    cause = next((_PROGRAM.sub("", line) for line in lines if line), "it gave no reason")
    if found := _LOAD.search(cause):
        return f"can't find {found[1]} {found[2]}"
    if found := _TRANSACTION.match(cause):
        return f"the kernel refused it ({found[1]})"
    return cause


def _edit_at(table_edits: Sequence[TableEdit], work: RestoreScript, number: int) -> TableEdit:
    """The table with the COMMIT at line `number`; the last table if the tool gave no line (ebtables)."""
    starts = [number_of_line for number_of_line, line in enumerate(work.lines, 1) if line.startswith("*")]
    index = sum(1 for start in starts if start <= number) - 1
    return table_edits[index if number else -1]


def _find_bad_rule(
    tool: commands.FirewallTool, edit: TableEdit, present: str, sets: Iterable[IpSet]
) -> tuple[tuple[Chain, FirewallRule], str] | None:
    """Find the first rule with which the table is refused, and the reason, in a new namespace that ends with this
    thread. What rules name is there, too: `sets`, accounting objects. None if the table is not refused there."""
    unshare(CLONE_NEWNET)
    ipset.write("", [Change(one, None) for one in sets])
    nfacct.create("", accounting_objects(one for chain in edit.chains_to_write for one in chain.rules))
    commands.try_restore(tool, RestoreScript(present))
    rules = [(chain, one) for chain in edit.chains_to_write for one in chain.rules]
    good, bad = 0, len(rules)
    if bad == 0 or _try(tool, edit, bad) is None:
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        if _try(tool, edit, middle) is None:
            good = middle
        else:
            bad = middle
    _try(tool, edit, good)
    chain, one = rules[bad - 1]
    command = tool.restore.removesuffix("-restore")
    done = commands.run([commands.find(command), "-t", edit.table, "-A", chain.name, *one.args])
    return rules[bad - 1], _cause(done.stderr).split(". Run `dmesg'")[0].rstrip(".")


def _try(tool: commands.FirewallTool, edit: TableEdit, count: int) -> str | None:
    """Write the edit's first `count` rules. Returns the tool's message, or None if that succeeded."""
    put = []
    for chain in edit.chains_to_write:
        put.append(replace(chain, rules=chain.rules[:count]))
        count -= len(put[-1].rules)
    return commands.try_restore(tool, restore_script([replace(edit, chains_to_write=tuple(put), chains_to_delete=())]))
