"""What the tests of scripts/image and of the manifests of a class share."""

from __future__ import annotations

# What a container of labctl needs, each with what it is needed for.
CAPABILITIES = {
    "CHOWN": "tcpdump -w gives its file to the user tcpdump",
    "DAC_OVERRIDE": "tcpdump -w writes to that file again",
    "KILL": "down ends processes of other users in a lab",
    "NET_ADMIN": "up makes links, routes and rules",
    "NET_BIND_SERVICE": "servers in a lab listen at ports below 1024",
    "NET_RAW": "checks send pings and capture",
    "SETGID": "tcpdump changes to the user tcpdump",
    "SETUID": "tcpdump changes to the user tcpdump",
    "SYS_ADMIN": "up makes network namespaces and mounts",
    "SYS_PTRACE": "down finds processes of other users in a lab",
}
