"""Containers of labctl for tests: the files of an image, and a process that has what a container runtime gives."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

# What a container of labctl needs, each with the first of the STEPS that fails without it.
CAPABILITIES = {
    "CHOWN": "tcpdump -w",
    "DAC_OVERRIDE": "tcpdump -w again",
    "KILL": "down",
    "NET_ADMIN": "up",
    "NET_BIND_SERVICE": "servers",
    "NET_RAW": "check",
    "SETGID": "tcpdump -w",
    "SETUID": "tcpdump -w",
    "SYS_ADMIN": "up",
    "SYS_PTRACE": "down",
}

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # also that of the image

# Each prints `good NAME` or `bad NAME`. After the last one, no process of a lab may be left.
STEPS = r"""
step() { name=$1; shift; if timeout 20 "$@" >/tmp/step 2>&1; then echo "good $name"; else echo "bad $name"; fi; }
capture='ping -c 5 -i 0.2 c & exec timeout 5 tcpdump -c 1 -i eth0 -w /tmp/packets icmp'
step up labctl up kubenet
step check labctl check -k 'a node sees the address'
step servers labctl up pods
step 'tcpdump -w' labctl -l kubenet exec a -- sh -c "$capture"
step 'tcpdump -w again' labctl -l kubenet exec a -- sh -c "$capture"
labctl -l kubenet exec a -- tcpdump -i lo >/dev/null 2>&1 &
sleep 0.7
labctl down --all >/dev/null 2>&1
sleep 0.2
step down sh -c '! pgrep -x tcpdump'
"""
NAMES = ("up", "check", "servers", "tcpdump -w", "tcpdump -w again", "down")

# What a runtime does before the first program: mounts, of which /proc/sys is read-only, and the capabilities.
CONTAINER = r"""
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs dev
for device in null zero random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for folder in tmp run root; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
pivot_root . mnt
umount -l /mnt
cd /root
bounds=$2
shift 2
exec setpriv --bounding-set="$bounds" "$@"
"""


def first_manifest(layout: Path) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Of an OCI layout: the entry of its index, the configuration, and the only layer."""
    blobs = layout / "blobs/sha256"
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_text())
    (layer,) = manifest["layers"]
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    return entry, config, blobs / layer["digest"].removeprefix("sha256:")


def run(
    root: Path, command: str, capabilities: Collection[str] = tuple(CAPABILITIES), *, user_namespace: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command of the shell in a container with these files and capabilities."""
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in sorted(capabilities))])
    program = ["/usr/bin/tini", "-s", "--", "/usr/local/sbin/labctl-container", "sh", "-c", command]
    words = ["unshare", "-nmpuif", "--kill-child", "--propagation", "private", "bash", "-ec", CONTAINER, "container",
             str(root), bounds, *program]  # fmt: skip
    if user_namespace:
        words = ["unshare", "--user", "bash", "-c", 'read -r _ && exec "$@" </dev/null', "user", *words]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"},
    )  # fmt: skip
    if user_namespace:
        own = os.readlink("/proc/self/ns/user")
        while os.readlink(f"/proc/{process.pid}/ns/user") == own:
            time.sleep(0.01)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536")
    out, err = process.communicate("go\n" if user_namespace else "", timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, out, err)
