"""Records of attachments in the state directory, and of the plan objects that the plugins created.

    cni/attachments/POD.IFNAME.json   the attachment, the search path of its plugins, the final result of its ADD
                                      (null until it is done), and the namespaces in which it was created
    cni/made.json                     the plan objects that plugins created, and the attachments for which they are
                                      complete
    cni/data/NODE                     what the plugins of a node write

A record is valid only as long as the namespaces are the same: a namespace that was created again is empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labctl.cni.spec import VERSIONS, Json
from labctl.core.record_shape import a_file_name, a_pair_of_texts
from labctl.core.resources import Attachment, Plan
from labctl.kernel.host import lab_state, paths, state_files
from labctl.render.plan_json import resource_from_json, resource_json

_FOLDER, _PLUGIN_OBJECTS_FILE = "cni/attachments", "cni/made.json"
_SHAPE = {"attachment": dict, "path": str, "result": (dict, None), "spaces": str}
_CONFLIST_SHAPE = {
    "cniVersion": lambda text: text in VERSIONS,
    "cniVersions?": [lambda text: text in VERSIONS],
    "name": str,
    "plugins": [{"type": a_file_name, "ipam?": dict, "capabilities?": dict}],
}
_PLUGIN_OBJECTS_SHAPE = {"made": [dict], "covers": [a_pair_of_texts]}


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """The record of one attachment. `result` is None for an ADD that started and is not known to have ended."""

    attachment: Attachment
    cni_path: str
    result: Json | None = field(hash=False)
    netns_identity: str  # the namespaces of node and pod in which it was created, as the function of that name


@dataclass(frozen=True, slots=True)
class PluginObjects:
    """What the plugins created, and the keys of the attachments for which that is complete."""

    plan: Plan = ()
    attachment_keys: frozenset[tuple[str, str]] = frozenset()


def data_dir(lab: str, node: str) -> Path:
    """The folder in which the plugins of a node write their files. It is created. Raises KernelError."""
    return state_files.make_folder(lab, "cni", "data", node)


def netns_identity(lab: str, attachment: Attachment) -> str:
    """The present namespaces of node and pod, by device and inode; "" if one is gone."""
    found = [_netns_id(lab, name) for name in (attachment.node, attachment.pod)]
    return " ".join(found) if all(found) else ""


def _netns_id(lab: str, name: str) -> str:
    try:
        found = os.stat(paths.netns_path(lab, name))
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def save_record(lab: str, record: AttachmentRecord) -> None:
    """Write a record atomically."""
    document = {
        "attachment": resource_json(record.attachment),
        "path": record.cni_path,
        "result": record.result,
        "spaces": record.netns_identity,
    }
    lab_state.save(lab, _file(record.attachment), json.dumps(document, ensure_ascii=False))


def delete_record(lab: str, attachment: Attachment) -> None:
    """Remove the record of an attachment."""
    state_files.remove(lab, _file(attachment))


def records(lab: str) -> tuple[AttachmentRecord, ...]:
    """The records of all attachments, oldest first; one that cannot be read is left out."""
    found = (_read(lab, name) for name in state_files.names(lab, *_FOLDER.split("/")))
    return tuple(record for record in found if record is not None)


def without_record(lab: str, attachments: Iterable[Attachment]) -> tuple[Attachment, ...]:
    """Those of these attachments for which an ADD began before, but the record is lost or cannot be read.

    A file with the name of the record shows it, or the record of what the plugins created.
    """
    attachments = tuple(attachments)
    readable = {record.attachment.key for record in records(lab)}
    covered = load_plugin_objects(lab).attachment_keys
    return tuple(
        item
        for item in attachments
        if item.key not in readable
        and ((item.pod, item.ifname) in covered or os.path.lexists(lab_state.directory(lab) / _file(item)))
    )


def save_plugin_objects(lab: str, plugin_objects: PluginObjects) -> None:
    """Record what the plugins created."""
    document = {
        "covers": sorted(plugin_objects.attachment_keys),
        "made": [resource_json(item) for item in plugin_objects.plan],
    }
    lab_state.save(lab, _PLUGIN_OBJECTS_FILE, json.dumps(document, ensure_ascii=False))


def delete_plugin_objects(lab: str) -> None:
    """Remove the record of what the plugins created: until `save_plugin_objects`, it is not known."""
    state_files.remove(lab, _PLUGIN_OBJECTS_FILE)


def load_plugin_objects(lab: str) -> PluginObjects:
    """What the plugins created; empty if it is not known."""
    try:
        document = state_files.read_json(lab, _PLUGIN_OBJECTS_FILE, _PLUGIN_OBJECTS_SHAPE)
        plan = tuple(resource_from_json(item) for item in document["made"])
        return PluginObjects(plan, frozenset((pod, ifname) for pod, ifname in document["covers"]))
    except (FileNotFoundError, ValueError):
        return PluginObjects()


def live_attachments(lab: str, plan: Iterable[Any], devices: frozenset[str]) -> Iterator[Attachment]:
    """Those of the attachments in `plan` that exist: recorded as done, in the namespaces that exist now, and with
    their device among `devices` (`a/eth0`)."""
    wanted = {item.key for item in plan if isinstance(item, Attachment)}
    covered = load_plugin_objects(lab).attachment_keys if wanted else frozenset()
    for record in records(lab) if wanted else ():
        attachment = record.attachment
        is_complete = (attachment.pod, attachment.ifname) in covered and record.result is not None
        if attachment.key not in wanted or not is_complete or str(attachment.at) not in devices:
            continue
        if record.netns_identity == netns_identity(lab, attachment) != "":
            yield attachment


def lost_nodes(lab: str) -> frozenset[str]:
    """The nodes with another namespace now than the one in which their attachments were created."""
    created_in = ((record.attachment.node, record.netns_identity.split()[:1]) for record in records(lab))
    return frozenset(node for node, identity in created_in if identity != [_netns_id(lab, node)])


def new_record(lab: str, attachment: Attachment, path: str) -> AttachmentRecord:
    """The record of an ADD that starts."""
    return AttachmentRecord(attachment, path, None, netns_identity(lab, attachment))


def complete_record(record: AttachmentRecord, result: Json) -> AttachmentRecord:
    """The record of an ADD that succeeded."""
    return replace(record, result=result)


def _file(attachment: Attachment) -> str:
    return f"{_FOLDER}/{attachment.pod}.{attachment.ifname}.json"


def _read(lab: str, name: str) -> AttachmentRecord | None:
    """The record in a file of the folder; None if it is not one."""
    if name.startswith(".") or not name.endswith(".json"):
        return None
    try:
        document = state_files.read_json(lab, f"{_FOLDER}/{name}", _SHAPE)
        attachment = resource_from_json(document["attachment"])
        if not isinstance(attachment, Attachment) or _file(attachment) != f"{_FOLDER}/{name}":
            return None
        state_files.parse_json(attachment.conflist, _CONFLIST_SHAPE)
        state_files.parse_json(attachment.args, {})
    except (FileNotFoundError, ValueError):
        return None
    return AttachmentRecord(attachment, document["path"], document["result"], document["spaces"])
