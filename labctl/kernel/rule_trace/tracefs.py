"""Why the kernel dropped a packet: a private tracing instance with the tracepoints of the network stack.

An instance has its own buffer, clock, filters and events; nothing global changes. tracefs is mounted for this process
only, without a mount point (fsmount), so it does not depend on the machine's mounts or its /sys. If the kernel has no
tracefs or refuses it (lockdown), `Tracing` raises OSError, and the trace works without it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

from labctl.core.observations import KernelEvent
from labctl.kernel.host.detached_mount import mount_detached

TRACEFS_MOUNTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
BUFFER_KB = 1024  # kB of events per processor at least; when it is full, further events are only counted
EVENTS = {"queue": "net/net_dev_queue", "receive": "net/netif_receive_skb", "drop": "skb/kfree_skb"}
_EVENT = re.compile(r"-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (\w+): (.*)")
_NET = re.compile(r"dev=(\S+) skbaddr=(\S+) len=(\d+)")
_DROP = re.compile(r"skbaddr=(\S+) (?:rx_sk=\S+ )?protocol=(\d+) location=(.+?)(?: reason: (\S+))?\s*$")


class Tracing:
    """One tracing instance; `name` is unique on this machine. `configure` and then `watch` make it ready.

    Each method raises OSError if the kernel refuses it.
    """

    def __init__(self, name: str) -> None:
        self._root = _open()
        self._path = f"{_at(self._root)}/instances/{name}"
        self.has_reasons = False
        try:
            os.mkdir(self._path)
            self._write("tracing_on", "0")
        except OSError:
            self.close()
            raise

    def configure(self) -> None:
        """Set the buffer, if it is too small, and the clock. Each takes some 15 ms, because the kernel waits for all
        processors."""
        size = re.match(r"\d+", self._read("buffer_size_kb"))
        if size is None or int(size[0]) < BUFFER_KB:
            self._write("buffer_size_kb", str(BUFFER_KB))
        self._write("trace_clock", "mono")

    def watch(self, lengths: Iterable[int]) -> None:
        """Switch on the events, for packets of these lengths."""
        with suppress(OSError):
            self._write("options/overwrite", "0")
        sizes = " || ".join(f"len == {length}" for length in sorted(set(lengths)))
        for kind, event in EVENTS.items():
            self._write(f"events/{event}/filter", "protocol == 2048 || protocol == 34525" if kind == "drop" else sizes)
            self._write(f"events/{event}/enable", "1")
        self.has_reasons = "reason" in self._read(f"events/{EVENTS['drop']}/format")

    def start(self) -> None:
        """Start recording."""
        self._write("tracing_on", "1")

    def stop(self) -> tuple[list[KernelEvent], int]:
        """Stop recording; returns the events in order, and the number of lost events."""
        self._write("tracing_on", "0")
        return parse(self._read("trace"), time.time_ns() - time.monotonic_ns()), self._lost_events()

    def read_events(self) -> list[KernelEvent]:
        """The events so far; the recording continues."""
        return parse(self._read("trace"), time.time_ns() - time.monotonic_ns())

    def close(self) -> None:
        """Remove the instance."""
        with suppress(OSError):
            os.rmdir(self._path)
        os.close(self._root)

    def _lost_events(self) -> int:
        missed = 0
        for cpu in os.listdir(f"{self._path}/per_cpu"):
            found = dict(re.findall(r"^([a-z ]+): (\d+)", self._read(f"per_cpu/{cpu}/stats"), re.MULTILINE))
            missed += int(found.get("overrun", 0)) + int(found.get("dropped events", 0))
        return missed

    def _write(self, name: str, text: str) -> None:
        # no os.open: a signal that comes meanwhile would leave the file open, and the instance could not be removed
        with open(f"{self._path}/{name}", "wb", buffering=0) as file:
            file.write(text.encode())

    def _read(self, name: str) -> str:
        with open(f"{self._path}/{name}", errors="replace") as file:
            return file.read()


def remove(name: str) -> bool:
    """Remove the instance of a killed trace; returns whether there was one. Raises OSError."""
    root = _open()
    try:
        os.rmdir(f"{_at(root)}/instances/{name}")
    except FileNotFoundError:
        return False
    finally:
        os.close(root)
    return True


def instances() -> tuple[str, ...]:
    """The names of all tracing instances, sorted. Raises OSError."""
    root = _open()
    try:
        return tuple(sorted(os.listdir(f"{_at(root)}/instances")))
    finally:
        os.close(root)


def parse(text: str, clock_offset_ns: int) -> list[KernelEvent]:
    """The events in the text of a `trace` file; its times plus `clock_offset_ns` are times since the epoch. Pure."""
    found = []
    for line in text.splitlines():
        if (match := _EVENT.search(line)) is None:
            continue
        pid, stamp, name, words = match.groups()
        seconds, _, fraction = stamp.partition(".")
        when = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")) + clock_offset_ns
        if name == "kfree_skb" and (drop := _DROP.match(words)) is not None:
            skb, protocol, location, reason = drop.groups()
            function = location.split("+")[0]
            found.append(KernelEvent("drop", when, int(pid), skb, "", 0, int(protocol), reason or "", function))
        elif (net := _NET.match(words)) is not None:
            kind: Literal["queue", "receive"] = "queue" if name == "net_dev_queue" else "receive"
            found.append(KernelEvent(kind, when, int(pid), net[2], net[1], int(net[3])))
    return found


def _at(root: int) -> str:
    return f"/proc/self/fd/{root}"


def _open() -> int:
    """A file descriptor of tracefs: of a private mount without a mount point, else of the machine's mount."""
    try:
        return mount_detached("tracefs")
    except OSError as error:
        for folder in TRACEFS_MOUNTS:
            if os.path.isdir(f"{folder}/instances"):
                return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        raise OSError(error.errno, f"no tracefs: {os.strerror(error.errno or 0)}") from None
