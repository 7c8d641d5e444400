"""The tools that build the benchmark's network, with one interface: `up` and `down`, measured.

A variant runs one or several processes. Its cost is the wall time from start to end, and the processor time of the
processes including their children.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from proof import NETNS, Proof, examine
from topology import Network, ip_lines

HERE = Path(__file__).parent
WORK = Path(os.environ.get("TMPDIR", "/tmp"))
CNI = Path("/usr/lib/cni")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time."""

    wall: float
    cpu: float | None = None


@dataclass
class Sample:
    """One lab that was built and removed: the cost of each verb, and the proof that it worked."""

    up: Cost
    down: Cost
    proof: Proof
    status: Cost | None = None
    extra: dict[str, float] = field(default_factory=dict)


class Failed(Exception):
    """A variant's program failed; the message is the end of its output."""


def run(argv: Iterable[str | Path], *, stdin: str | None = None, capture: Path | None = None) -> Cost:
    """Run a process to its end and return its cost, including its children. Raises Failed."""
    command = [str(argument) for argument in argv]
    log = capture or WORK / "log"
    with open(log, "wb") as out, open(WORK / "err", "wb+") as err, open(stdin or "/dev/null", "rb") as input_file:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=input_file, stdout=out, stderr=err)
        _, state, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(state)
        if process.returncode:
            err.seek(0)
            output = (err.read() + Path(log).read_bytes()).decode(errors="replace")
            raise Failed(f"{' '.join(command)[:120]} ended with {process.returncode}: {output.strip()[-600:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def script(name: str, lines: Iterable[str]) -> Path:
    path = WORK / name
    path.write_text("".join(line + "\n" for line in lines))
    return path


def scenario(net: Network) -> Path:
    """Write labctl's scenario file for a network."""
    return script("bench.yaml", ["name: bench", *net.scenario.splitlines()])


def forwarding(net: Network, prefix: str) -> list[str]:
    """Commands that set ip_forward on every router, which `ip` itself cannot set."""
    return [f"nsenter --net={NETNS}/{prefix}.{name} sysctl -qw net.ipv4.ip_forward=1" for name in net.routers]


class Variant:
    """A tool that builds the network. A large network is measured only once with a `slow` tool, not N times."""

    name = ""
    prefix = ""
    slow = False

    def skip(self, net: Network) -> str | None:
        """Why this cannot be measured here or at this size; None if it can."""
        return None

    def sample(self, net: Network) -> Sample:
        up = self.up(net)
        try:
            proof = examine(self.prefix, f"{self.prefix}.{net.first}", net.target)
        finally:
            down = self.down(net)
        return Sample(up, down, proof)

    def up(self, net: Network) -> Cost:
        raise NotImplementedError

    def down(self, net: Network) -> Cost:
        raise NotImplementedError


class Floor(Variant):
    """The minimal C program."""

    name, prefix = "C floor", "c"

    def prepare(self) -> None:
        subprocess.run(["gcc", "-O2", "-o", WORK / "floor", HERE / "floor.c"], check=True)

    def _run(self, verb: str, net: Network) -> Cost:
        return run([WORK / "floor", verb, NETNS, self.prefix, *map(str, (net.nodes, net.pods, net.leaves))])

    def up(self, net: Network) -> Cost:
        return self._run("up", net)

    def down(self, net: Network) -> Cost:
        return self._run("down", net)


class IpEach(Variant):
    """A shell script: one `ip` process per object."""

    name, prefix, slow = "ip, one process per object", "i", True

    def up(self, net: Network) -> Cost:
        lines = ["set -e", *(f"ip netns add {self.prefix}.{name}" for name in net.names)]
        lines += [f"ip -n {at} {line}" for at, line in ip_lines(net, self.prefix)]
        return run(["bash", script("ip-up", [*lines, *forwarding(net, self.prefix)])])

    def down(self, net: Network) -> Cost:
        return run(["bash", script("ip-down", (f"ip netns del {self.prefix}.{name}" for name in net.names))])


class IpBatch(Variant):
    """`ip -batch`: one process for all namespaces, then one for each."""

    name, prefix, quiet = "ip -batch", "b", False

    def up(self, net: Network) -> Cost:
        shutil.rmtree(WORK / "batch", ignore_errors=True)
        (WORK / "batch").mkdir()
        spaces = script("batch/spaces", (f"netns add {self.prefix}.{name}" for name in net.names))
        calls = ["set -e", f"ip -batch {spaces}"]
        for at, lines in groupby(ip_lines(net, self.prefix, quiet=self.quiet), key=lambda pair: pair[0]):
            file = script(f"batch/{at}", (line for _, line in lines))
            calls.append(f"ip -n {at} -batch {file}")
        return run(["bash", script("batch-up", [*calls, *forwarding(net, self.prefix)])])

    def down(self, net: Network) -> Cost:
        return run(["ip", "-batch", script("batch-down", (f"netns del {self.prefix}.{name}" for name in net.names))])


class IpBatchQuiet(IpBatch):
    """The same with IPv6 autoconfiguration off: one more line per device, and the pods send no IPv6 packets."""

    name, prefix, quiet = "ip -batch, IPv6 quiet", "q", True


class Pyroute2(Variant):
    """Plain pyroute2, one NetNS object per namespace."""

    name, prefix, slow = "pyroute2, NetNS each", "p", True

    def _run(self, verb: str, net: Network) -> Cost:
        numbers = map(str, (net.nodes, net.pods, net.leaves))
        return run([sys.executable, HERE / "rival_pyroute2.py", verb, self.prefix, *numbers])

    def up(self, net: Network) -> Cost:
        made = self._run("up", net)
        rest = run(["bash", script("forward", forwarding(net, self.prefix))])
        return Cost(made.wall + rest.wall, (made.cpu or 0) + (rest.cpu or 0))

    def down(self, net: Network) -> Cost:
        return self._run("down", net)


class CniBridge(Variant):
    """The real CNI `bridge` plugin with host-local addresses, called once per pod as a runtime does."""

    name, prefix, slow = "CNI bridge plugin per pod", "n", True

    def skip(self, net: Network) -> str | None:
        missing = [plugin for plugin in ("bridge", "host-local") if not (CNI / plugin).exists()]
        return f"no {' and '.join(missing)} in {CNI} (Debian: containernetworking-plugins)" if missing else None

    def _calls(self, net: Network, command: str) -> Iterable[str]:
        for node in range(net.nodes):
            ipam = {"type": "host-local", "subnet": net.pod_net(node), "dataDir": f"{WORK}/cni{node}"}
            ipam["routes"] = [{"dst": "0.0.0.0/0"}]  # type: ignore[assignment]
            conf = {"cniVersion": "0.4.0", "name": "bench", "type": "bridge", "bridge": "br0", "isGateway": True}
            file = WORK / f"cni-conf-{node}"
            file.write_text(json.dumps({**conf, "ipam": ipam}))
            for pod in range(net.pods):
                name = f"{self.prefix}.n{node}p{pod}"
                words = f"CNI_COMMAND={command} CNI_CONTAINERID={name} CNI_NETNS={NETNS}/{name} CNI_IFNAME=eth0"
                enter = f"nsenter --net={NETNS}/{self.prefix}.n{node}"
                yield f"{words} CNI_PATH={CNI} {enter} {CNI}/bridge <{file} >{WORK}/cni-answer || " + (
                    f"{{ cat {WORK}/cni-answer; exit 1; }}"
                )

    def up(self, net: Network) -> Cost:
        lines = ["set -e", *(f"ip netns add {self.prefix}.{name}" for name in net.names)]
        lines += [f"ip -n {at} {line}" for at, line in ip_lines(net, self.prefix, pods=False)]
        return run(["bash", script("cni-up", [*lines, *forwarding(net, self.prefix), *self._calls(net, "ADD")])])

    def down(self, net: Network) -> Cost:
        deletes = [f"ip netns del {self.prefix}.{name}" for name in net.names]
        return run(["bash", script("cni-down", ["set -e", *self._calls(net, "DEL"), *deletes])])


class Mininet(Variant):
    """Mininet with a Linux bridge: hosts only, without a host namespace and without a route out."""

    name, slow = "Mininet, LinuxBridge", True
    python = "/usr/bin/python3"

    def skip(self, net: Network) -> str | None:
        if net.nodes > 1 or net.size > 100:
            return "one bridge and up to 100 hosts only"
        if shutil.which("brctl") is None:
            return "no brctl (Debian: bridge-utils)"
        probe = subprocess.run([self.python, "-c", "import mininet.net"], stderr=subprocess.DEVNULL)
        return "not installed (Debian: mininet)" if probe.returncode or not shutil.which("mnexec") else None

    def sample(self, net: Network) -> Sample:
        run([self.python, HERE / "rival_mininet.py", str(net.pods)], capture=WORK / "mininet.json")
        found = json.loads((WORK / "mininet.json").read_text().splitlines()[-1])
        proof = Proof(found["namespaces"], found["links"], found["ping"])
        return Sample(Cost(found["up"]), Cost(found["down"]), proof)


class Labctl(Variant):
    """labctl in one fresh process: from reading the scenario to the built lab, imports of the engine included."""

    name, prefix = "labctl", "labctl.bench"

    def sample(self, net: Network) -> Sample:
        answer = WORK / "labctl.json"
        run([sys.executable, HERE / "in_process.py", scenario(net)], capture=answer)
        found = json.loads(answer.read_text())
        proof = Proof(*found["proof"])
        status = Cost(*found["status"])
        return Sample(Cost(*found["up"]), Cost(*found["down"]), proof, status, found["extra"])


class LabctlProcess(Variant):
    """The whole command, from the start of Python to its end."""

    name, prefix = "labctl up (whole command)", "labctl.bench"

    def sample(self, net: Network) -> Sample:
        up = run([sys.executable, "-m", "labctl", "up", scenario(net), "--name", "bench"])
        try:
            first, target = ends(net)
            proof = examine(self.prefix, first, target)
        finally:
            down = run([sys.executable, "-m", "labctl", "down", "bench"])
        return Sample(up, down, proof)


def ends(net: Network) -> tuple[str, str]:
    """The namespace of labctl's first pod and the address of its last one, from the compiled lab."""
    from labctl.lab import lifecycle

    found = lifecycle.compile_definition(lifecycle.define(str(scenario(net)), "bench"))
    pods = [machine for machine in found.machines if machine.role in ("pod", "container")]
    return f"labctl.bench.{pods[0].name}", str(pods[-1].addresses[0])


VARIANTS: tuple[Variant, ...] = (
    Floor(), Labctl(), LabctlProcess(), IpBatch(), IpBatchQuiet(), IpEach(), Pyroute2(), CniBridge(), Mininet(),
)  # fmt: skip

__all__ = ["VARIANTS", "Cost", "Failed", "Floor", "Labctl", "Sample", "Variant", "run"]
