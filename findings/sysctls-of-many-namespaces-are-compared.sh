#!/usr/bin/env bash
# Linux 6.18 (seen with pyroute2 0.9.6): a sysctl below /proc/sys/net/ipv4 that is read in each of many network
# namespaces takes time with the square of their number. The kernel has an entry "ipv4" for each namespace, all in one
# list of the mount of proc, and compares one after the other. A new mount of proc has an empty list, so reading through
# one for each 64 namespaces takes less time.
#
# Run it as root. It makes 3,000 namespaces in a separate mount namespace, and removes them by ending.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install pyroute2==0.9.6
cat >"$work/read.py" <<'PYTHON'
import ctypes
import os
import time

from pyroute2 import netns

SETTING = "sys/net/ipv4/ip_forward"
libc = ctypes.CDLL(None, use_errno=True)


def new_proc():
    made = libc.syscall(430, ctypes.c_char_p(b"proc"), 1)  # fsopen
    libc.syscall(431, made, 6, None, None, 0)  # fsconfig: create
    mounted = libc.syscall(432, made, 1, 0)  # fsmount
    os.close(made)
    assert mounted >= 0, os.strerror(ctypes.get_errno())
    return mounted


def seconds(count, at_once):
    """Time to read the setting in that many namespaces, with a new mount of proc for each `at_once` of them. Going from
    one namespace to the next does not count."""
    spent = 0.0
    proc = os.open("/proc", os.O_PATH)
    for number in range(count):
        netns.setns(f"n{number}")
        begun = time.perf_counter()
        if at_once and number % at_once == 0:
            os.close(proc)
            proc = new_proc()
        file = os.open(SETTING, os.O_RDONLY, dir_fd=proc)
        assert os.read(file, 9).strip().isdigit()
        os.close(file)
        spent += time.perf_counter() - begun
    os.close(proc)
    return spent


for number in range(300):
    netns.create(f"n{number}")
seconds(300, 0)
few = seconds(300, 0) / 300
for number in range(300, 3000):
    netns.create(f"n{number}")
seconds(3000, 0)
many, new = seconds(3000, 0) / 3000, seconds(3000, 64) / 3000
print(f"one mount of proc, for each of 300 namespaces:    {few * 1e6:7.0f} us")
print(f"one mount of proc, for each of 3,000 namespaces:  {many * 1e6:7.0f} us")
print(f"many mounts of proc, for each of 3,000:           {new * 1e6:7.0f} us")
raise SystemExit(many < 4 * few or many < 2 * new)
PYTHON
if ! unshare -nm --propagation private bash -c '
  mount -t tmpfs none /run && mkdir /run/netns && exec "$@"' sh "$work/venv/bin/python" "$work/read.py"; then
  echo "this is not the behaviour that was seen on 2026-11-30 with Linux 6.18; here is $(uname -r)"
  exit 1
fi
echo "as on 2026-11-30 with Linux 6.18: the more namespaces, the longer each takes, except through new mounts of proc"
