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

from labctl.cni.conflist import parse_config_list
from labctl.cni.spec import Json
from labctl.core.resources import Attachment, Plan
from labctl.kernel.host import lab_state, paths
from labctl.render.plan_json import resource_from_json, resource_json

_PLUGIN_OBJECTS_FILE = "cni/made.json"


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
    """The folder in which the plugins of a node write their files."""
    return lab_state.directory(lab) / "cni/data" / node


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
    (lab_state.directory(lab) / _file(attachment)).unlink(missing_ok=True)


def records(lab: str) -> tuple[AttachmentRecord, ...]:
    """The records of all attachments, oldest first; one that cannot be read is left out."""
    folder = lab_state.directory(lab) / "cni/attachments"
    files = [file for file in folder.glob("*.json") if not file.name.startswith(".")] if folder.is_dir() else []
    found = (_read(file) for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name)))
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
    (lab_state.directory(lab) / _PLUGIN_OBJECTS_FILE).unlink(missing_ok=True)


def load_plugin_objects(lab: str) -> PluginObjects:
    """What the plugins created; empty if it is not known."""
    document = _read_document(lab_state.directory(lab) / _PLUGIN_OBJECTS_FILE)
    try:
        plan = tuple(resource_from_json(item) for item in document["made"])
        return PluginObjects(plan, frozenset((pod, ifname) for pod, ifname in document["covers"]))
    except (ValueError, KeyError, TypeError, AttributeError):
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
    return f"cni/attachments/{attachment.pod}.{attachment.ifname}.json"


def _read(file: Path) -> AttachmentRecord | None:
    """The record in a file; None if it is not one."""
    document = _read_document(file)
    try:
        attachment = resource_from_json(document["attachment"])
        record = AttachmentRecord(attachment, document["path"], document["result"], document["spaces"])  # type: ignore[arg-type]
        if isinstance(attachment, Attachment) and _is_valid(record) and file.name == Path(_file(attachment)).name:
            parse_config_list(attachment.conflist)
            return record
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None


def _is_valid(record: AttachmentRecord) -> bool:
    """Whether every value of a record has the type that it is written with."""
    item = record.attachment
    texts = (item.pod, item.node, item.conflist, item.args, item.ifname, item.path)
    return (
        all(isinstance(text, str) for text in (*texts, record.cni_path, record.netns_identity))
        and isinstance(json.loads(item.args), dict)
        and isinstance(record.result, (dict, type(None)))
    )


def _read_document(file: Path) -> Json:
    """The JSON object in a file; empty if there is none. What is not a regular file is not opened: a pipe would not
    end."""
    try:
        found = json.loads(file.read_text("utf-8", "surrogateescape")) if file.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
