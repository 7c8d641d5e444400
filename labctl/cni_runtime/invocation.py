"""The calls of a CNI runtime: which plugins it calls, in which order, with which environment and input. Pure.

Follows sections 3 and 4 of SPEC.md 1.1.0 of containernetworking/cni, and libcni where the text is open.
`calls` returns the calls of one command on a network list, in order. Each is complete except for `prevResult`, which an
ADD gets from the plugin before: `PluginCall.stdin_text` adds it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from labctl.cni.conflist import NetworkConfigList, capabilities
from labctl.cni.spec import COMMANDS, PREV_RESULT_ON_DEL, VALID_ATTACHMENTS_KEYS, Json, at_least
from labctl.core.resources import Attachment

DATA_DIRS = {"host-local": "host-local", "tuning": "tuning"}  # plugins that write files -> their directory
_OF_THE_PROJECT = (
    "bandwidth", "bridge", "dhcp", "dummy", "firewall", "host-device", "host-local", "ipvlan", "loopback", "macvlan",
    "portmap", "ptp", "sbr", "static", "tap", "tuning", "vlan", "vrf",
)  # fmt: skip
REFERENCE = frozenset(_OF_THE_PROJECT)  # the plugins of containernetworking/plugins
# plugins of network projects that run only in a cluster -> labctl's model of the project, which needs no plugin
MODELS = {
    "antrea": "antrea", "aws-cni": "eks-vpc-cni", "azure-vnet": "azure-cni-transparent", "calico": "calico",
    "cilium-cni": "cilium", "flannel": "flannel", "weave-net": "weave",
}  # fmt: skip
COMMANDS_WITHOUT_CONTAINER = ("GC", "STATUS", "VERSION")  # the commands that do not concern a container


@dataclass(frozen=True, slots=True)
class Container:
    """The container of a call: its id, the path of its namespace ("" if that is gone), its device, and the capability
    arguments."""

    id: str
    netns: str
    ifname: str
    args: Json = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class PluginCall:
    """One call of one plugin, without the result of the plugin before."""

    plugin: str
    command: str
    environment: dict[str, str] = field(hash=False)
    config: Json = field(hash=False)

    def stdin_text(self, prev_result: Json | None = None) -> str:
        """The text for the plugin's standard input; `prev_result` is the result to add as `prevResult`."""
        config = self.config if prev_result is None else {**self.config, "prevResult": prev_result}
        return json.dumps(config)


def container_of(attachment: Attachment, netns: str) -> Container:
    """The container of an attachment. Its id is the pod's name, so that chain names are the same in every lab."""
    return Container(attachment.pod, netns, attachment.ifname, json.loads(attachment.args))


def calls(
    command: str,
    config_list: NetworkConfigList,
    cni_path: str,
    data_dir: str,
    container: Container | None = None,
    valid_attachments: tuple[tuple[str, str], ...] = (),
) -> tuple[PluginCall, ...]:
    """The calls of a command, in the order of the list; for DEL in reverse order.

    `cni_path` is CNI_PATH, `data_dir` the directory that plugins may write in. `valid_attachments`, for a GC, are pairs
    of container id and device. Raises ValueError for an unknown command, for a command that needs a container if there
    is none, and for a container with a command that needs none.
    """
    if command not in COMMANDS or (container is None) != (command in COMMANDS_WITHOUT_CONTAINER):
        raise ValueError(f"a call of {command} cannot be made of this")
    plugins = config_list.plugins[::-1] if command == "DEL" else config_list.plugins
    environment = {"CNI_COMMAND": command, **_container(container), "CNI_PATH": cni_path}
    found = []
    for plugin in plugins:
        config = _config(command, config_list, plugin, data_dir, container, valid_attachments)
        found.append(PluginCall(plugin["type"], command, environment, config))
    return tuple(found)


def version_call(plugin: str, version: str, path: str) -> PluginCall:
    """The VERSION call, which asks a plugin for its supported versions."""
    return PluginCall(plugin, "VERSION", {"CNI_COMMAND": "VERSION", "CNI_PATH": path}, {"cniVersion": version})


def takes_prev_result(command: str, version: str) -> bool:
    """Whether a command, in this version, gets the final result of the ADD."""
    return command == "CHECK" or (command == "DEL" and at_least(version, PREV_RESULT_ON_DEL))


def _container(container: Container | None) -> dict[str, str]:
    if container is None:
        return {}
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default"
    args += f";K8S_POD_NAME={container.id};K8S_POD_INFRA_CONTAINER_ID={container.id}"
    return {
        "CNI_CONTAINERID": container.id,
        "CNI_NETNS": container.netns,
        "CNI_IFNAME": container.ifname,
        "CNI_ARGS": args,
    }


def _config(
    command: str,
    config_list: NetworkConfigList,
    plugin: Json,
    data_dir: str,
    container: Container | None,
    valid_attachments: tuple[tuple[str, str], ...],
) -> Json:
    """A plugin's configuration for its standard input: without the keys for the runtime, and with the keys that the
    runtime adds."""
    config = {key: value for key, value in plugin.items() if key not in ("capabilities", "runtimeConfig", "prevResult")}
    config |= {"cniVersion": config_list.version, "name": config_list.name}
    if plugin["type"] in DATA_DIRS:
        config["dataDir"] = f"{data_dir}/{DATA_DIRS[plugin['type']]}"
    ipam = plugin.get("ipam")
    if isinstance(ipam, dict) and ipam.get("type") in DATA_DIRS:
        config["ipam"] = {**ipam, "dataDir": f"{data_dir}/{DATA_DIRS[ipam['type']]}"}
    declared = capabilities((plugin,))
    offered = {key: value for key, value in container.args.items() if key in declared} if container is not None else {}
    if offered:
        config["runtimeConfig"] = offered
    if command == "GC":
        valid = [{"containerID": id, "ifname": ifname} for id, ifname in valid_attachments]
        config |= dict.fromkeys(VALID_ATTACHMENTS_KEYS, valid)
    return config
