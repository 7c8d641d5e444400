"""A temporary virtual machine: its disks, its boot, and the output of its console.

Its work is an order, a list of named commands that `guest`, its first process, runs one after the other. The result of
each command is on the console, in lines that begin with @vm. qemu's own exit code does not show it.
"""

from __future__ import annotations

import io
import os
import selectors
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MEMORY = 2048  # MiB
UP = {"kvm": 20.0, "tcg": 180.0}  # seconds in which the guest must report that it is up
TABLES = ("ip_tables", "ip6_tables", "arp_tables", "ebtables")
LEGACY = (*TABLES, "iptable_*", "ip6table_*", "arptable_*", "ebtable_*")  # modules of the legacy tables


@dataclass(frozen=True)
class Step:
    """One command of an order."""

    name: str
    command: str


@dataclass
class Done:
    """The result of a step: its exit code, its seconds, and its output. `code` is None if it did not end."""

    name: str
    code: int | None = None
    seconds: float = 0.0
    output: list[str] = field(default_factory=list)


@dataclass
class Run:
    """The result of one boot, as reported on the console."""

    kernel: str = ""  # empty: the machine did not come up
    accelerator: str = ""
    steps: list[Done] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # serious errors and warnings of the kernel
    code: int | None = None  # None: the machine ended before its order was done
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.code == 0 and not self.complaints and all(step.code == 0 for step in self.steps)

    def hear(self, line: str) -> None:
        """Process one line of the console."""
        word, _, rest = line.removeprefix("@vm ").partition(" ") if line.startswith("@vm ") else ("", "", "")
        if word == "up":
            self.kernel = rest
        elif word == "begin":
            self.steps.append(Done(rest))
        elif word == "end":
            code, milliseconds, _ = rest.split(" ", 2)
            self.steps[-1].code, self.steps[-1].seconds = int(code), int(milliseconds) / 1000
        elif word in ("kernel", "broken"):
            self.complaints.append(rest)
        elif word.startswith("rc="):
            self.code = int(word[3:])
        elif self.steps and self.steps[-1].code is None:
            self.steps[-1].output.append(line)


def accelerators(system: Path = Path("/")) -> list[str]:
    """The accelerators that qemu can use here, best first. It is not enough that /dev/kvm opens: without hardware
    virtualisation (on nested hosts) the guest would hang for ever."""
    modules = ("sys/module/kvm_intel", "sys/module/kvm_amd")
    real = any((system / name).exists() for name in modules) and os.access(system / "dev/kvm", os.R_OK | os.W_OK)
    return ["kvm", "tcg"] if real else ["tcg"]


def write_disk(target: Path, root: Path, order: Sequence[Step], without: Sequence[str], compiled: Path) -> None:
    """Write the second disk: a plain tar of the current source tree, the order, and Python's compiled files."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=False)
    if listed.returncode == 0:
        names = sorted({name for name in listed.stdout.decode().split("\0") if name and (root / name).exists()})
    else:  # a tree without git, from an archive or a copy
        names = [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file() and _ours(path)]
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in names:
            tar.add(root / name, name)
        if compiled.is_dir():
            tar.add(compiled, ".vm/pycache")
        for name, text in (
            ("order", "".join(f"{step.name}\t{step.command}\n" for step in order)),
            ("without", "".join(f"{name}\n" for name in without)),
        ):
            entry = tarfile.TarInfo(f".vm/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))


def _ours(path: Path) -> bool:
    return not any(part.startswith(".venv") or part in ("__pycache__", ".vagrant", ".git") for part in path.parts)


def command(image: Path, disk: Path, accelerator: str) -> list[str]:
    """The qemu command. One processor only: with several, guests have crashed under TCG."""
    arguments = ["qemu-system-x86_64", "-M", "pc", "-accel", accelerator, "-m", str(MEMORY), "-smp", "1"]
    arguments += ["-cpu", "host" if accelerator == "kvm" else "max"]
    arguments += ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-device", "virtio-rng-pci"]
    arguments += ["-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd")]
    arguments += ["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off"]
    arguments += ["-drive", f"file={image / 'root.img'},format=raw,if=virtio,snapshot=on"]
    return [*arguments, "-drive", f"file={disk},format=raw,if=virtio,readonly=on"]


def boot(image: Path, disk: Path, limit: float, listen: Callable[[Run, str], None]) -> Run:
    """Boot, and wait until the order is done or `limit` seconds are over. If the machine does not come up, try once
    more without hardware virtualisation."""
    run = Run()
    choices = accelerators()
    for accelerator in (choices[0], choices[-1]):
        run = _once(command(image, disk, accelerator), UP[accelerator], limit, listen)
        run.accelerator = accelerator
        if run.kernel:
            break
    return run


def _once(arguments: Sequence[str], up: float, limit: float, listen: Callable[[Run, str], None]) -> Run:
    run, started = Run(), time.monotonic()
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as qemu:
        try:
            for line in _lines(qemu, lambda: time.monotonic() > started + (limit if run.kernel else up)):
                run.hear(line)
                listen(run, line)
        finally:
            qemu.kill()
    run.seconds = time.monotonic() - started
    return run


def _lines(process: subprocess.Popen[bytes], late: Callable[[], bool]) -> Iterator[str]:
    """The output of a process, line by line, until it ends or `late` returns True."""
    assert process.stdout is not None
    left = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not late():
            if not selector.select(0.5):
                continue
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                return
            *lines, left = (left + data).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in lines)
