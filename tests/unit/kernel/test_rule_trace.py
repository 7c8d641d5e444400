"""The events of tracefs and the reports of rules, as the kernel hands them over."""

from __future__ import annotations

import socket

import pytest

from labctl.core.observations import KernelEvent
from labctl.kernel.rule_trace import nft_trace
from labctl.kernel.rule_trace.tracefs import parse
from tests.support.observations import SECOND


@pytest.mark.parametrize(
    ("line", "reason", "location"),
    [
        ("protocol=2048 location=ip_forward+0x1a/0x40", "", "ip_forward"),
        ("protocol=2048 location=000000001c8ab012", "", "000000001c8ab012"),
        ("protocol=2048 location=nf_hook_slow+0xa0/0xb0 reason: NETFILTER_DROP", "NETFILTER_DROP", "nf_hook_slow"),
        ("rx_sk=0000000000000000 protocol=2048 location=ip_error+0x5/0x9 reason: NOT_HERE", "NOT_HERE", "ip_error"),
    ],
    ids=["5.10", "no symbols", "6.1", "6.11"],
)  # fmt: skip
def test_drops_are_read_from_old_and_new_kernels(line: str, reason: str, location: str) -> None:
    (event,) = parse(
        f"          ping-4711    [001] b.s2.  12.345678: kfree_skb: skbaddr=00000000ee {line}\n", 5 * SECOND
    )

    assert event == KernelEvent("drop", 17_345_678_000, 4711, "00000000ee", "", 0, 2048, reason, location)


def test_passages_are_read_and_headers_are_not() -> None:
    text = (
        "# tracer: nop\n#\n"
        "          <idle>-0       [000] ..s1.  1.000001: netif_receive_skb: dev=veth1 skbaddr=00000000aa len=84\n"
        "          ping-12      [000] .....  1.000002: net_dev_queue: dev=eth0 skbaddr=00000000aa len=98\n"
        "          ping-12      [000] .....  1.000003: sched_switch: whatever\n"
    )
    receive, queue = parse(text, 0)

    assert (receive.kind, receive.pid, receive.dev, receive.length) == ("receive", 0, "veth1", 84)
    assert (queue.kind, queue.when, queue.dev, queue.length) == ("queue", 1_000_002_000, "eth0", 98)


class UserNamespaceSocket:
    """A socket as it is in a user namespace: SO_RCVBUFFORCE is not permitted there."""

    options: list[tuple[int, int]]

    def __init__(self, *_: int) -> None:
        self.options = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == (socket.SOL_SOCKET, 33):
            raise PermissionError(1, "Operation not permitted")
        self.options.append((option, value))

    def bind(self, address: tuple[int, int]) -> None: ...

    def setblocking(self, flag: bool) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def close(self) -> None: ...


def test_reports_of_nft_rules_are_read_in_a_user_namespace_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", UserNamespaceSocket)

    log = nft_trace.NftLog("labctl-lab-1")

    assert (socket.SO_RCVBUF, nft_trace.RCVBUF_BYTES) in log._socket._socket.options  # type: ignore[attr-defined]
