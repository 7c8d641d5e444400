"""The program netavark, called as Podman calls it: once for each network of each container.

`scripts/test` unpacks it from newer Debians (LABCTL_SUBJECTS). It runs with the C library of Debian forky, and with the
`nft` and `iptables` of this machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labctl.core.scenario_types import Scenario
from labctl.kernel.firewall import commands
from labctl.kernel.host import paths
from labctl.models.lib.podman_networks import Endpoint, host_endpoints, networks
from tests.fidelity import subjects

TREES = (Path("/"), subjects.UNPACKED / "forky", subjects.UNPACKED / "experimental")
PLACES = ("usr/lib/podman/netavark", "usr/libexec/podman/netavark")


def find(release: str) -> list[str] | None:
    """The words that start a netavark of a release; None if there is none here."""
    for tree in TREES:
        for place in PLACES:
            if (tree / place).exists():
                words = [*(_loader() if tree != Path("/") else ()), str(tree / place)]
                done = subprocess.run([*words, "version"], capture_output=True, text=True)
                if done.returncode == 0 and json.loads(done.stdout)["version"].startswith(f"{release}."):
                    return words
    return None


def _loader() -> list[str]:
    """The dynamic loader of Debian forky, with its libraries."""
    loader = next(iter(sorted((subjects.UNPACKED / "forky").glob("usr/lib/*/ld-linux-*.so.*"))), None)
    return [] if loader is None else [str(loader), "--library-path", str(loader.parent)]


class Netavark:
    """netavark on one host of a lab, for the containers of a scenario. Its iptables is iptables-nft."""

    def __init__(self, lab: str, host: str, work: Path, words: list[str], driver: str) -> None:
        self.lab, self.host, self.work, self.words, self.driver = lab, host, work, words, driver
        tools = commands.make_tool_directory(work / "tools", "nft")
        self.env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

    def start(self, scenario: Scenario) -> None:
        """Set up every container of the host, in the order of the file."""
        for end, request in self._requests(scenario):
            self._call("setup", end.container, request)

    def stop(self, scenario: Scenario) -> None:
        """Take every container away again."""
        for end, request in self._requests(scenario):
            self._call("teardown", end.container, request)

    def _requests(self, scenario: Scenario) -> Iterator[tuple[Endpoint, dict[str, Any]]]:
        nets, settings_of = networks(scenario), dict(scenario.networks)
        node = next(node for node in scenario.nodes if node.name == self.host)
        for end in host_endpoints(node, nets):
            yield end, request_of(end, settings_of.get(end.network.name))

    def _call(self, verb: str, container: str, request: dict[str, Any]) -> None:
        options = ["--firewall-driver", self.driver, "--config", str(self.work), "--rootless", "false"]
        words = [*self.words, *options, "--aardvark-binary", "/nonexistent", verb]
        where = str(paths.netns_path(self.lab, container))
        subjects.inside(self.lab, self.host, *words, where, env=self.env, text=json.dumps(request))


def request_of(end: Endpoint, settings: Any) -> dict[str, Any]:
    """What Podman writes to netavark for a container and one of its networks. `settings` are those of the file."""
    net = end.network
    options = {
        "isolate": getattr(settings, "isolate", None),
        "mtu": net.mtu,
        "metric": getattr(settings, "metric", None),
        "no_default_route": None if net.default_route else "true",
        "outbound_addr4": getattr(settings, "outbound_addr4", None),
        "outbound_addr6": getattr(settings, "outbound_addr6", None),
    }
    own = {"host_interface_name": end.host_device} if not re.fullmatch(r"veth\d+", end.host_device) else {}
    ports = [
        {
            "container_port": port.port,
            "host_port": port.host_port,
            "host_ip": str(port.address or ""),
            "protocol": port.protocol,
            "range": port.count,
        }
        for port in end.ports
    ]
    subnets = [
        {"subnet": str(subnet), "gateway": str(gateway)}
        for subnet, gateway in zip(net.subnets, net.gateways, strict=True)
    ]
    return {
        "container_id": end.container_id,
        "container_name": end.container,
        **({"port_mappings": ports} if ports else {}),
        "networks": {
            net.name: {
                "static_ips": [str(address) for address in end.addresses],
                "static_mac": end.mac or None,
                "interface_name": end.device,
                "options": own,
            }
        },
        "network_info": {
            net.name: {
                "name": net.name,
                "id": net.id,
                "driver": "bridge",
                "network_interface": net.device,
                "subnets": subnets,
                "ipv6_enabled": net.has_ipv6,
                "internal": net.internal,
                "dns_enabled": False,
                "ipam_options": {"driver": "host-local"},
                "options": {key: str(value) for key, value in options.items() if value is not None},
            }
        },
    }
