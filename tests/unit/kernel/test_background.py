"""Programs in the background: which sockets listen, in the text of /proc/net."""

from __future__ import annotations

import pytest

import labctl
from labctl.kernel.node_exec.background import parse_listeners

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0
   1: 0300F40A:0051 0200F40A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4
"""
UDP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
  65: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 \
00000000     0        0 99 2 0000000000000000 0
  66: 00000000000000000000000000000001:0036 00000000000000000000000000000001:9C40 01 00000000:00000000 00:00000000 \
00000000     0        0 98 2 0000000000000000 0
"""


def test_sockets_that_listen_are_told_from_connected_ones() -> None:
    assert [(str(found), found.inode) for found in parse_listeners(TCP, "tcp")] == [("tcp port 80", "4711")]
    assert [(str(found), found.inode) for found in parse_listeners(UDP6, "udp")] == [("udp port 53", "99")]
    assert list(parse_listeners("", "tcp")) == []


@pytest.mark.parametrize("port", [0, -1, 65536, True, "", "http", "53/udpp", "80/", "80-90", 80.0, b"80", [80]])
def test_a_port_that_is_none_is_refused_before_anything_starts(port: object) -> None:
    lab = labctl.RunningLab(definition=labctl.load("kubenet").compiled)
    with pytest.raises(labctl.UsageError, match="wait_port=") as caught:
        labctl.Node("a", lab).start(["true"], wait_port=port)  # type: ignore[arg-type]

    assert "'53/udp' for UDP" in str(caught.value)
