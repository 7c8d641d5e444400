"""What a process sees inside a node besides its network: /sys of that namespace, and the lab's own names.

A bare setns leaves the machine's links in /sys/class/net and the machine's resolver in /etc: a name
could be looked up outside the lab (a resolver on a unix socket knows no network namespaces) or cost
seconds. So the process gets a mount namespace of its own in which nothing but these few files differs.
"""

from __future__ import annotations

import os

from labctl.kernel.host.syscalls import MS_BIND, MS_REC, mount

SYS = "/sys"
KEPT = ("/sys/fs/cgroup", "/sys/fs/bpf")  # mounts under /sys that a fresh sysfs would hide
LOCAL = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def hosts(lab: str, names: list[tuple[str, str]], machine: str = "") -> str:
    """/etc/hosts of a lab: localhost, the lab's names with their addresses, and the machine's own name.

    `machine` is the machine's host name, which sudo and others look up; a node of that name goes first.
    """
    lines = [f"{address} {name}" for name, address in names]
    taken = {name for name, _ in names} | {"localhost"}
    if machine and machine not in taken:
        lines.append(f"127.0.1.1 {machine}")
    return f"# lab {lab}\n{LOCAL}" + "".join(f"{line}\n" for line in lines)


def nsswitch(machine: str) -> str:
    """The machine's own nsswitch.conf, but host names come from /etc/hosts and nowhere else."""
    lines = [line for line in machine.splitlines() if line.split("#")[0].split(":")[0].strip() != "hosts"]
    return "".join(f"{line}\n" for line in [*lines, "hosts: files"])


def files(lab: str, names: list[tuple[str, str]]) -> dict[str, str]:
    """The files that differ inside, with their text."""
    try:
        with open("/etc/nsswitch.conf") as file:
            switch = file.read()
    except OSError:
        switch = ""
    return {
        "/etc/hosts": hosts(lab, names, os.uname().nodename),
        "/etc/resolv.conf": f"# lab {lab} has no DNS server: its names are in /etc/hosts\n",
        "/etc/nsswitch.conf": nsswitch(switch),
    }


def furnish(texts: dict[str, str]) -> None:
    """Bind the texts over the files and give /sys to the network namespace the caller is in.

    Only for a process that has a private mount namespace. The texts lie on a tmpfs that the new /sys
    then covers, so that neither a writable disk nor a free mount point is needed. A file that the
    machine does not have is left out. Raises OSError.
    """
    kept = [(path, fd) for path in KEPT if (fd := _hold(path)) is not None]
    mount("labctl", SYS, "tmpfs", 0, "mode=755,size=4m")
    for number, (path, text) in enumerate(texts.items()):
        draft = f"{SYS}/{number}"
        with open(draft, "w") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        if os.path.exists(path):
            mount(draft, path, None, MS_BIND)
    mount("sysfs", SYS, "sysfs")
    for path, fd in kept:
        if os.path.isdir(path):
            mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        os.close(fd)


def _hold(path: str) -> int | None:
    if not os.path.ismount(path):
        return None
    return os.open(path, os.O_PATH | os.O_CLOEXEC)
