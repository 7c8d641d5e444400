"""One Linux bridge with hosts, by Mininet's API. It is built and removed in one process, because hosts are processes.

Called by the system's Python as `rival_mininet.py HOSTS`; prints the measurements and the proof as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time

import mininet.net
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo


def main() -> None:
    hosts = int(sys.argv[1])
    mininet.net.fixLimits = lambda: None  # it would raise limits of the whole machine
    started = time.perf_counter()
    net = mininet.net.Mininet(SingleSwitchTopo(k=hosts), switch=LinuxBridge, controller=None)
    net.start()
    result = {"up": time.perf_counter() - started}
    last = net.hosts[-1]
    result["ping"] = " 0% packet loss" in net.hosts[0].cmd(f"ping -n -q -c1 -W2 {last.IP()}")
    namespaces = {os.readlink(f"/proc/{host.pid}/ns/net") for host in net.hosts}
    result["namespaces"] = len(namespaces - {os.readlink("/proc/self/ns/net")})
    result["links"] = sum(len(host.intfList()) for host in net.hosts) * 2 + 1
    started = time.perf_counter()
    net.stop()
    result["down"] = time.perf_counter() - started
    print(json.dumps(result))


if __name__ == "__main__":
    main()
