"""Attach pods by CNI plugins, as a container runtime does: ADD missing ones, DEL removed ones, CHECK and GC.

The order of an `up`: first everything that plugins do not create is built (`lab.py`). Then each missing attachment gets
a DEL, if an ADD began before, and an ADD. Then the objects that the plugins created are observed and recorded. During
this time there is no such record, so that an interrupted run starts again from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from labctl.cni.conflist import Network, network
from labctl.cni.spec import Json, Malformed, has, json_object, result_of
from labctl.cni_runtime.invocation import Call, calls, pod_of, takes_previous
from labctl.cni_runtime.known_issues import mistaken
from labctl.cni_runtime.observed_state import attached, known, made_by_plugins, settings_made, whole, without
from labctl.core.resources import Attachment, Plan, Sysctl
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, LabError
from labctl.kernel.cni import attachment_records
from labctl.kernel.cni import plugins as cni
from labctl.kernel.host import paths
from labctl.kernel.host.sysctl import read_all
from labctl.kernel.namespaces.thread import Inside

if TYPE_CHECKING:
    from labctl.kernel.lab_kernel import Linux

Tell: TypeAlias = Callable[[str], None]
Settings: TypeAlias = dict[str, dict[str, str]]


def wanted(lab: Lab) -> Plan:
    """The whole wanted state: the plan, and the objects that plugins created, from the record."""
    return whole(lab.plan, attachment_records.made(lab.name).plan) if attached(lab.plan) else lab.plan


def complete(lab: Lab) -> Lab:
    """A running lab, completed from the plugins' results and the record: machines with addresses, plan with objects."""
    if not attached(lab.plan):
        return lab
    return replace(resolved(lab), plan=wanted(lab))


def resolved(lab: Lab) -> Lab:
    """A running lab, in which the machines have the addresses that the plugins assigned; its plan is unchanged."""
    records = attachment_records.records(lab.name) if attached(lab.plan) else ()
    return known(lab, {one.attachment.pod: one.result for one in records if one.result is not None})


def require(lab: Lab) -> None:
    """Check that the plugins of a lab exist and support its version, before anything is built.

    Raises MissingError.
    """
    needed = dict.fromkeys((item.conflist, cni.search_path(item.path)) for item in attached(lab.plan))
    if needed:
        with cni.Plugins(lab.name) as plugins:
            seen: set[tuple[str, tuple[str, ...], str]] = set()
            for text, path in needed:
                what = network(text)
                if (key := (what.version, what.types, path)) not in seen:
                    seen.add(key)
                    _said(plugins.require, what, path)


def attach(lab: Lab, dead: tuple[Attachment, ...], kernel: Linux, tell: Tell) -> None:
    """Create these attachments, the missing ones of a lab; all its other objects exist.

    Raises KernelError with the plugin's message for the first that fails, after its DEL; attachments created before
    that are recorded. Raises MissingError.
    """
    known_before = attachment_records.made(lab.name)
    old = replace(known_before, plan=without(known_before.plan, dead, attachment_records.lost_nodes(lab.name)))
    attachment_records.drop_made(lab.name)
    before = _settings(lab)
    done: list[Attachment] = []
    try:
        with cni.Plugins(lab.name) as plugins:
            _forget(plugins, dead)
            _collect(plugins, lab, dead)
            _ask_status(plugins, dead)
            for item in dead:
                tell(f"attaching {item.at} by {', '.join(network(item.conflist).types)}")
                _add(plugins, item)
                done.append(item)
    except LabError:
        _settle(lab, kernel, old, before, (dead, done))
        raise
    _settle(lab, kernel, old, before, (dead, done))


def _settle(
    lab: Lab,
    kernel: Linux,
    old: attachment_records.Made,
    before: Settings,
    work: tuple[Iterable[Attachment], Iterable[Attachment]],
) -> None:
    """Observe the objects that the plugins created and record them. `old` are those that remained from before; `work`
    is the pair of attachments to create, and those that were created."""
    dead, done = (frozenset((item.pod, item.ifname) for item in some) for some in work)
    kept = [item for item in old.plan if isinstance(item, Sysctl)]
    settings = whole(tuple(kept), _new_settings(lab, before))
    made = made_by_plugins(lab.plan, kernel.observe(lab.plan), settings)
    attachment_records.keep_made(lab.name, attachment_records.Made(made, old.covers - dead | done))


def detach(lab: str) -> tuple[str, ...]:
    """DEL every recorded attachment, the last one first, and then call GC.

    Returns the errors as sentences; no error stops the removal of the lab.
    """
    records = attachment_records.records(lab)
    if not records:
        return ()
    attachment_records.drop_made(lab)
    with cni.Plugins(lab) as plugins:
        troubles = [text for record in reversed(records) for text in _del(plugins, record)]
        nodes = {record.attachment.node: record for record in records}
        for record in nodes.values():
            troubles += _gc(plugins, record, ())
    return tuple(troubles)


def check(lab: Lab) -> Iterator[tuple[Attachment, str, str]]:
    """CHECK every attachment of a lab: `pass`, `fail` with the plugin's message, or `skip` with the reason."""
    records = {record.attachment.key: record for record in attachment_records.records(lab.name)}
    with cni.Plugins(lab.name) as plugins:
        for item in attached(lab.plan):
            record = records.get(item.key)
            why = network(item.conflist).no_check_because
            if why:
                yield item, "skip", why
            elif record is None or record.result is None:
                yield item, "fail", f"{item.at} is not attached: there is no record of an ADD result"
            else:
                yield item, *_checked(plugins, record)


def _checked(plugins: cni.Plugins, record: attachment_records.Record) -> tuple[str, str]:
    item = record.attachment
    what = network(item.conflist)
    asides = ""
    for call in _calls(plugins.lab, "CHECK", what, record):
        try:
            plugins.call(item.node, call, record.result)
        except LabError as error:
            why = mistaken(call.plugin, getattr(error, "error", None), record.result or {})
            if not why:
                return "fail", error.message
            asides += f" ({why})"
        except OSError as error:
            return "fail", f"{item.node} cannot be entered: {error.strerror}"
    return "pass", f"{item.at}: CHECK of {', '.join(one['type'] for one in what.plugins)} passed{asides}"


def _add(plugins: cni.Plugins, item: Attachment) -> None:
    """One ADD through the whole chain; the final result is recorded. After an error, a DEL follows."""
    what, path = network(item.conflist), cni.search_path(item.path)
    record = attachment_records.begun(plugins.lab, item, path)
    attachment_records.keep(plugins.lab, record)
    result: Json | None = None
    try:
        for call in _calls(plugins.lab, "ADD", what, record):
            text = plugins.call(item.node, call, result)
            result = _result(call.plugin, text, what.version)
    except BaseException:
        with suppress(LabError, OSError):
            _forget(plugins, (item,))
        raise
    assert result is not None
    attachment_records.keep(plugins.lab, attachment_records.done(record, result))


def _result(plugin: str, text: str, version: str) -> Json:
    """The result as the plugin wrote it: the next plugin and every later call must get exactly that. A result without
    cniVersion gets the version of the call, as in libcni."""
    try:
        found: Json = {"cniVersion": version, **json_object(text, "result")}
        result_of(found)
    except (Malformed, KeyError, TypeError, AttributeError) as error:
        raise KernelError(f"the CNI plugin {plugin} answered an ADD with an invalid result: {error}") from None
    return found


def _calls(lab: str, command: str, what: Network, record: attachment_records.Record) -> tuple[Call, ...]:
    item = record.attachment
    netns = paths.netns_path(lab, item.pod)
    pod = pod_of(item, str(netns) if command != "DEL" or netns.exists() else "")
    folder = attachment_records.data_dir(lab, item.node)
    folder.mkdir(parents=True, exist_ok=True)
    return calls(command, what, record.path, str(folder), pod)


def _del(plugins: cni.Plugins, record: attachment_records.Record) -> Iterator[str]:
    """DEL through the chain: each plugin is called even if another one failed; then the record is removed. Yields the
    errors."""
    item = record.attachment
    what = network(item.conflist)
    result = record.result if takes_previous("DEL", what.version) else None
    node = item.node if paths.netns_path(plugins.lab, item.node).exists() else None
    for call in _calls(plugins.lab, "DEL", what, record):
        try:
            plugins.call(node, call, result)
        except LabError as error:
            yield error.message
        except OSError as error:
            yield f"{call.plugin} DEL of {item.at}: {error.strerror}"
    attachment_records.drop(plugins.lab, item)


def _forget(plugins: cni.Plugins, those: Iterable[Attachment]) -> None:
    """DEL those of these attachments for which an ADD began before. Errors are ignored: the next ADD reports them."""
    keys = {item.key for item in those}
    for record in reversed(attachment_records.records(plugins.lab)):
        if record.attachment.key in keys:
            list(_del(plugins, record))


def _collect(plugins: cni.Plugins, lab: Lab, dead: tuple[Attachment, ...]) -> None:
    """GC on each node of these attachments, with the recorded ones as valid. A new lab has nothing to collect."""
    alive = attachment_records.records(lab.name)
    for record in {one.attachment.node: one for one in alive if one.attachment.node in {d.node for d in dead}}.values():
        here = [one.attachment for one in alive if one.attachment.node == record.attachment.node]
        list(_gc(plugins, record, tuple((item.pod, item.ifname) for item in here)))


def _gc(plugins: cni.Plugins, record: attachment_records.Record, valid: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """GC on one node: each plugin is called even if another one failed. Yields the errors."""
    what, node = network(record.attachment.conflist), record.attachment.node
    folder = str(attachment_records.data_dir(plugins.lab, node))
    here = node if paths.netns_path(plugins.lab, node).exists() else None
    for call in calls("GC", what, record.path, folder, valid=valid) if what.collects else ():
        try:
            plugins.call(here, call)
        except (LabError, OSError) as error:
            yield error.message if isinstance(error, LabError) else str(error)


def _ask_status(plugins: cni.Plugins, those: Iterable[Attachment]) -> None:
    """STATUS of every plugin on every node with attachments to create. Raises KernelError."""
    for item in {one.node: one for one in those}.values():
        what, path = network(item.conflist), cni.search_path(item.path)
        if has(what.version, "STATUS"):
            folder = attachment_records.data_dir(plugins.lab, item.node)
            folder.mkdir(parents=True, exist_ok=True)
            for call in calls("STATUS", what, path, str(folder)):
                plugins.call(item.node, call)


def _said(function: Callable[[Network, str], None], what: Network, path: str) -> None:
    try:
        function(what, path)
    except Malformed as error:
        raise KernelError(f"a CNI plugin answered VERSION with an invalid answer: {error}") from None


def _settings(lab: Lab) -> Settings:
    """Every sysctl of the namespaces of attachments, by namespace."""
    names = dict.fromkeys(name for item in attached(lab.plan) for name in (item.node, item.pod))
    found: Settings = {}
    with Inside() as inside:
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = inside.run(paths.netns_path(lab.name, name), read_all)
    return found


def _new_settings(lab: Lab, before: Settings) -> Plan:
    after = _settings(lab)
    return tuple(item for ns in after if ns in before for item in settings_made(ns, before[ns], after[ns]))
