"""Attach pods by CNI plugins, as a container runtime does: ADD missing ones, DEL removed ones, CHECK and GC.

The order of an `up`: first everything that plugins do not create is built (`lifecycle.py`). Then each missing
attachment gets a DEL, if an ADD began before, and an ADD. Then the objects that the plugins created are observed and
recorded. During this time there is no such record, so that an interrupted run starts again from the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from labctl.cni.conflist import NetworkConfigList, parse_config_list
from labctl.cni.spec import DecodeError, Json, json_object, result_from_json, supports
from labctl.cni_runtime.invocation import PluginCall, calls, container_of, takes_prev_result
from labctl.cni_runtime.known_issues import is_known_del_error, known_crash, known_issue
from labctl.cni_runtime.observed_state import (
    changed_sysctls,
    merge,
    plugin_objects,
    result_addresses,
    with_addresses,
    without_attachments,
)
from labctl.core.resources import Attachment, Plan, Route, Sysctl, attachments_of
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, LabError
from labctl.kernel.cni import attachment_records
from labctl.kernel.cni.plugins import PluginError, Plugins, search_path
from labctl.kernel.host import paths
from labctl.kernel.host.sysctl import read_all_sysctls
from labctl.kernel.namespaces.device_state import has_device
from labctl.kernel.namespaces.entry import is_lab_netns
from labctl.kernel.namespaces.thread import NetnsThread

if TYPE_CHECKING:
    from labctl.kernel.lab_kernel import KernelLab

Progress: TypeAlias = Callable[[str], None]
DAD_TIMEOUT_S = 5.0  # seconds to wait for duplicate address detection, which takes one to two
DAD_INTERVAL_S = 0.02  # seconds between two looks at the addresses
SysctlValues: TypeAlias = dict[str, dict[str, str]]


def expected_plan(lab: Lab) -> Plan:
    """The whole wanted state: the plan, and the objects that plugins created, from the record."""
    if not attachments_of(lab.plan):
        return lab.plan
    return merge(lab.plan, attachment_records.load_plugin_objects(lab.name).plan)


def with_plugin_results(lab: Lab) -> Lab:
    """A running lab, completed from the plugins' results and the record: machines with addresses, plan with objects."""
    if not attachments_of(lab.plan):
        return lab
    return replace(with_pod_addresses(lab), plan=expected_plan(lab))


def with_pod_addresses(lab: Lab) -> Lab:
    """A running lab, in which the machines have the addresses that the plugins assigned; its plan is unchanged."""
    records = attachment_records.records(lab.name) if attachments_of(lab.plan) else ()
    results = {record.attachment.pod: record.result for record in records if record.result is not None}
    return with_addresses(lab, results)


def require_plugins(lab: Lab) -> None:
    """Check that the plugins of a lab exist and support its version, before anything is built.

    Raises MissingError.
    """
    needed = dict.fromkeys((item.conflist, search_path(item.path)) for item in attachments_of(lab.plan))
    if needed:
        with Plugins(lab.name) as plugins:
            seen: set[tuple[str, tuple[str, ...], str]] = set()
            for text, path in needed:
                config_list = parse_config_list(text)
                if (key := (config_list.version, config_list.types, path)) not in seen:
                    seen.add(key)
                    _call_require(plugins.require, config_list, path)


def attach(lab: Lab, missing: tuple[Attachment, ...], kernel: KernelLab, notify: Progress) -> None:
    """Create these attachments, the missing ones of a lab; all its other objects exist.

    Raises KernelError with the plugin's message for the first that fails, after its DEL; attachments created before
    that are recorded. Raises MissingError.
    """
    recorded = attachment_records.load_plugin_objects(lab.name)
    without_record = attachment_records.without_record(lab.name, missing)
    remaining = without_attachments(recorded.plan, missing, attachment_records.lost_nodes(lab.name))
    old = replace(recorded, plan=remaining)
    attachment_records.delete_plugin_objects(lab.name)
    before = _read_sysctls(lab)
    done: list[Attachment] = []
    try:
        with Plugins(lab.name) as plugins:
            _delete_earlier(plugins, missing, without_record)
            _gc_nodes(plugins, lab, missing)
            _check_status(plugins, missing)
            for item in missing:
                notify(f"attaching {item.at} by {', '.join(parse_config_list(item.conflist).types)}")
                _add(plugins, item)
                done.append(item)
            _wait_for_ipv6(plugins, done)
    except LabError:
        _record_objects(lab, kernel, old, before, (missing, done))
        raise
    _record_objects(lab, kernel, old, before, (missing, done))


def _record_objects(
    lab: Lab,
    kernel: KernelLab,
    old: attachment_records.PluginObjects,
    before: SysctlValues,
    work: tuple[Iterable[Attachment], Iterable[Attachment]],
) -> None:
    """Observe the objects that the plugins created and record them. `old` are those that remained from before; `work`
    is the pair of attachments to create, and those that were created."""
    missing, done = (frozenset((item.pod, item.ifname) for item in attachments) for attachments in work)
    old_sysctls = [item for item in old.plan if isinstance(item, Sysctl)]
    settings = merge(tuple(old_sysctls), _changed_sysctls(lab, before))
    created = plugin_objects(lab.plan, kernel.observe(lab.plan), settings)
    attachment_records.save_plugin_objects(
        lab.name, attachment_records.PluginObjects(created, old.attachment_keys - missing | done)
    )


def detach(lab: str) -> tuple[str, ...]:
    """DEL every recorded attachment, the last one first, and then call GC.

    Returns the errors as sentences; no error stops the removal of the lab.
    """
    records = attachment_records.records(lab)
    if not records:
        return ()
    attachment_records.delete_plugin_objects(lab)
    with Plugins(lab) as plugins:
        errors: list[str] = []
        for record in reversed(records):
            try:
                errors += _del(plugins, record)
            except Exception as error:  # its record can be anything, and the lab is removed all the same
                errors.append(f"DEL of {record.attachment.at}: {error}")
        nodes = {record.attachment.node: record for record in records}
        for record in nodes.values():
            try:
                errors += _gc_node(plugins, record, ())
            except Exception as error:
                errors.append(f"GC on {record.attachment.node}: {error}")
    return tuple(errors)


def check(lab: Lab) -> Iterator[tuple[Attachment, str, str]]:
    """CHECK every attachment of a lab: `pass`, `fail` with the plugin's message, or `skip` with the reason."""
    records = {record.attachment.key: record for record in attachment_records.records(lab.name)}
    with Plugins(lab.name) as plugins:
        for item in attachments_of(lab.plan):
            record = records.get(item.key)
            reason = parse_config_list(item.conflist).no_check_reason
            if reason:
                yield item, "skip", reason
            elif record is None or record.result is None:
                yield item, "fail", f"{item.at} is not attached: there is no record of an ADD result"
            else:
                yield item, *_check_attachment(plugins, record)


def _check_attachment(plugins: Plugins, record: attachment_records.AttachmentRecord) -> tuple[str, str]:
    item = record.attachment
    config_list = parse_config_list(item.conflist)
    known_issues = ""
    for call in _plugin_calls(plugins.lab, "CHECK", config_list, record):
        try:
            plugins.call(item.node, call, record.result)
        except LabError as error:
            issue = _known_issue(plugins.lab, record, call, error)
            if not issue:
                return "fail", error.message
            known_issues += f" ({issue})"
        except OSError as error:
            return "fail", f"{item.node} cannot be entered: {error.strerror}"
    return (
        "pass",
        f"{item.at}: CHECK of {', '.join(plugin['type'] for plugin in config_list.plugins)} passed{known_issues}",
    )


def _known_issue(lab: str, record: attachment_records.AttachmentRecord, call: PluginCall, error: LabError) -> str:
    """Why the error of a CHECK is a known bug of the plugin; "" if it is a real error."""
    if not isinstance(error, PluginError):
        return ""
    if error.error is None:
        return known_crash(call, error.exit_code)
    return known_issue(call, error.error, record.result or {}, partial(_routes, lab, record.attachment.pod))


def _routes(lab: str, pod: str) -> tuple[Route, ...]:
    """The routes of a pod."""
    from labctl.kernel.lab_kernel import KernelLab

    with KernelLab(lab) as kernel:
        return tuple(item for item in kernel.observe((), (pod,), chains=False) if isinstance(item, Route))


def _add(plugins: Plugins, item: Attachment) -> None:
    """One ADD through the whole chain; the final result is recorded. After an error, a DEL follows."""
    config_list, path = parse_config_list(item.conflist), search_path(item.path)
    record = attachment_records.new_record(plugins.lab, item, path)
    attachment_records.save_record(plugins.lab, record)
    result: Json | None = None
    try:
        for call in _plugin_calls(plugins.lab, "ADD", config_list, record):
            text = plugins.call(item.node, call, result)
            result = _result(call.plugin, text, config_list.version)
        _require_device(plugins, item, config_list)
    except BaseException:
        with suppress(LabError, OSError):
            _delete_earlier(plugins, (item,))
        raise
    assert result is not None
    attachment_records.save_record(plugins.lab, attachment_records.complete_record(record, result))


def _require_device(plugins: Plugins, item: Attachment, config_list: NetworkConfigList) -> None:
    """Check that the plugins created the pod's device: without it, nothing can be claimed about the pod.

    Raises KernelError.
    """
    if not plugins.run(item.pod, has_device, item.ifname):
        message = f"the list {config_list.name} ({', '.join(config_list.types)}) gives {item.pod} no {item.ifname}"
        raise KernelError(message, "each of its plugins succeeded, but none created that device")


def _wait_for_ipv6(plugins: Plugins, attachments: Iterable[Attachment]) -> None:
    """Wait until no global IPv6 address of these pods and their nodes is tentative: nothing answers for one that is.

    Plugins wait for the addresses of the pod, and not for those that they give the node.
    """
    from labctl.kernel.namespaces.late_answers import has_tentative_address

    results = {record.attachment.key: record.result for record in attachment_records.records(plugins.lab)}
    with_ipv6 = [
        item for item in attachments if any(ip.version == 6 for ip in result_addresses(results.get(item.key) or {}))
    ]
    deadline = time.monotonic() + DAD_TIMEOUT_S
    for name in dict.fromkeys(name for item in with_ipv6 for name in (item.node, item.pod)):
        while plugins.run(name, has_tentative_address) and time.monotonic() < deadline:
            time.sleep(DAD_INTERVAL_S)


def _result(plugin: str, text: str, version: str) -> Json:
    """The result as the plugin wrote it: the next plugin and every later call must get exactly that. A result without
    cniVersion gets the version of the call, as in libcni."""
    try:
        found: Json = {"cniVersion": version, **json_object(text, "result")}
        result_from_json(found)
    except DecodeError as error:
        raise KernelError(f"the CNI plugin {plugin} answered an ADD with an invalid result: {error}") from None
    return found


def _plugin_calls(
    lab: str, command: str, config_list: NetworkConfigList, record: attachment_records.AttachmentRecord
) -> tuple[PluginCall, ...]:
    item = record.attachment
    netns = paths.netns_path(lab, item.pod)
    pod = container_of(item, str(netns) if command != "DEL" or is_lab_netns(netns) else "")
    folder = attachment_records.data_dir(lab, item.node)
    return calls(command, config_list, record.cni_path, str(folder), pod)


def _del(plugins: Plugins, record: attachment_records.AttachmentRecord) -> Iterator[str]:
    """DEL through the chain: each plugin is called even if another one failed; then the record is removed. Yields the
    errors."""
    item = record.attachment
    config_list = parse_config_list(item.conflist)
    result = record.result if takes_prev_result("DEL", config_list.version) else None
    node = item.node if is_lab_netns(paths.netns_path(plugins.lab, item.node)) else None
    for call in _plugin_calls(plugins.lab, "DEL", config_list, record):
        try:
            plugins.call(node, call, result)
        except PluginError as error:
            if error.error is None or not is_known_del_error(call, error.error):
                yield error.message
        except LabError as error:
            yield error.message
        except OSError as error:
            yield f"{call.plugin} DEL of {item.at}: {error.strerror}"
    attachment_records.delete_record(plugins.lab, item)


def _delete_earlier(
    plugins: Plugins, attachments: Iterable[Attachment], without_record: Iterable[Attachment] = ()
) -> None:
    """DEL those of these attachments for which an ADD began before; those in `without_record` as the plan has them,
    because their result is not known. Errors are ignored: the next ADD reports them."""
    keys = {item.key for item in attachments}
    for item in without_record:
        list(_del(plugins, attachment_records.new_record(plugins.lab, item, search_path(item.path))))
    for record in reversed(attachment_records.records(plugins.lab)):
        if record.attachment.key in keys:
            list(_del(plugins, record))


def _gc_nodes(plugins: Plugins, lab: Lab, missing: tuple[Attachment, ...]) -> None:
    """GC on each node of these attachments, with the recorded ones as valid. A new lab has nothing to collect."""

    nodes = {item.node for item in missing}
    by_node: dict[str, list[attachment_records.AttachmentRecord]] = {}
    for record in attachment_records.records(lab.name):
        if record.attachment.node in nodes:
            by_node.setdefault(record.attachment.node, []).append(record)
    for records in by_node.values():
        valid = tuple((record.attachment.pod, record.attachment.ifname) for record in records)
        list(_gc_node(plugins, records[-1], valid))


def _gc_node(
    plugins: Plugins, record: attachment_records.AttachmentRecord, valid: tuple[tuple[str, str], ...]
) -> Iterator[str]:
    """GC on one node: each plugin is called even if another one failed. Yields the errors."""
    config_list, node = parse_config_list(record.attachment.conflist), record.attachment.node
    folder = attachment_records.data_dir(plugins.lab, node)
    netns_node = node if is_lab_netns(paths.netns_path(plugins.lab, node)) else None
    for call in (
        calls("GC", config_list, record.cni_path, str(folder), valid_attachments=valid)
        if config_list.supports_gc
        else ()
    ):
        try:
            plugins.call(netns_node, call)
        except (LabError, OSError) as error:
            yield error.message if isinstance(error, LabError) else str(error)


def _check_status(plugins: Plugins, attachments: Iterable[Attachment]) -> None:
    """STATUS of every plugin on every node with attachments to create. Raises KernelError."""
    for item in {one.node: one for one in attachments}.values():
        config_list, path = parse_config_list(item.conflist), search_path(item.path)
        if supports(config_list.version, "STATUS"):
            folder = attachment_records.data_dir(plugins.lab, item.node)
            for call in calls("STATUS", config_list, path, str(folder)):
                plugins.call(item.node, call)


def _call_require(
    function: Callable[[NetworkConfigList, str], None], config_list: NetworkConfigList, path: str
) -> None:
    try:
        function(config_list, path)
    except DecodeError as error:
        raise KernelError(f"a CNI plugin answered VERSION with an invalid answer: {error}") from None


def _read_sysctls(lab: Lab) -> SysctlValues:
    """Every sysctl of the namespaces of attachments, by namespace."""
    names = dict.fromkeys(name for item in attachments_of(lab.plan) for name in (item.node, item.pod))
    found: SysctlValues = {}
    with NetnsThread() as thread:
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = thread.run(paths.netns_path(lab.name, name), read_all_sysctls)
    return found


def _changed_sysctls(lab: Lab, before: SysctlValues) -> Plan:
    after = _read_sysctls(lab)
    return tuple(item for ns in after if ns in before for item in changed_sysctls(ns, before[ns], after[ns]))
