"""The one nfnetlink socket, with a kernel that the test plays: what it sends, and what it makes of the answers."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from labctl.kernel.netlink import nfnetlink
from labctl.kernel.netlink.nfnetlink import NfnetlinkSocket, nfgenmsg

HEADER = struct.Struct("=IHHII")
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300


def message(kind: int, sequence: int, body: bytes = b"", flags: int = 0) -> bytes:
    return HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


def acknowledgement(sequence: int, code: int = 0) -> bytes:
    return message(ERROR, sequence, struct.pack("=i", -code) + bytes(16))


class PlayedKernel(socket.socket):
    """The kernel's end: what was sent to it, and the datagrams that it answers."""

    def __init__(self, *_: int) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sent: list[bytes] = []
        self.answers: list[bytes | OSError] = []
        PlayedKernel.last = self

    last: PlayedKernel

    def bind(self, address: object) -> None: ...

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        self.sent.append(data)
        return len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        answer = self.recv(len(buffer))
        buffer[: len(answer)] = answer
        return len(answer)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[NfnetlinkSocket, PlayedKernel]]:
    with monkeypatch.context() as patch:
        patch.setattr(nfnetlink.socket, "socket", PlayedKernel)
        sock = NfnetlinkSocket()
    with sock:
        yield sock, PlayedKernel.last


Kernel = tuple[NfnetlinkSocket, PlayedKernel]


def test_a_request_returns_the_errno_of_its_own_acknowledgement(kernel: Kernel) -> None:
    sock, end = kernel
    end.answers = [acknowledgement(7, errno.EPERM), message(0x600, 1), acknowledgement(1), acknowledgement(2, 4098)]

    assert sock.request(0x602, nfgenmsg(socket.AF_INET), 0x600) == 0
    assert sock.request(0x602, nfgenmsg(socket.AF_INET, 5)) == 4098
    assert end.sent == [
        message(0x602, 1, b"\2\0\0\0", REQUEST | ACK | 0x600),
        message(0x602, 2, b"\2\0\0\5", REQUEST | ACK),
    ]


@pytest.mark.parametrize("last", [message(DONE, 1), acknowledgement(1, errno.EPERM)], ids=["done", "error"])
def test_a_dump_ends_with_the_table_or_with_an_error(kernel: Kernel, last: bytes) -> None:
    sock, end = kernel
    end.answers = [message(0xA00, 1, b"abcd") + message(0xA00, 9, b"else"), message(0xA00, 1, b"efgh") + last]

    assert [data[start:stop] for data, start, stop in sock.dump(0xA01, nfgenmsg(0))] == [b"abcd", b"efgh"]
    assert end.sent == [message(0xA01, 1, bytes(4), REQUEST | DUMP)]


def test_a_transaction_is_one_batch_and_waits_for_every_acknowledgement(kernel: Kernel) -> None:
    sock, end = kernel
    end.answers = [acknowledgement(1), acknowledgement(2)]

    sock.nft_transaction([(0xA00, 0x400, b"one."), (0xA02, 0, b"two.")])

    batch = message(16, 0, b"\0\0\0\n", REQUEST) + message(0xA00, 1, b"one.", REQUEST | ACK | 0x400)
    assert end.sent == [batch + message(0xA02, 2, b"two.", REQUEST | ACK) + message(17, 0, b"\0\0\0\n", REQUEST)]
    assert end.answers == []


def test_a_refused_transaction_is_the_error_of_its_first_request(kernel: Kernel) -> None:
    sock, end = kernel
    end.answers = [acknowledgement(1, errno.ENOENT), acknowledgement(2, errno.EBUSY)]
    with pytest.raises(OSError, match=r"nf_tables refused$") as caught:
        sock.nft_transaction([(0xA02, 0, b""), (0xA02, 0, b"")])
    assert (caught.value.errno, end.answers) == (errno.ENOENT, [])

    end.answers = [acknowledgement(0, errno.EOPNOTSUPP)]
    with pytest.raises(OSError, match="refused the batch") as caught:
        sock.nft_transaction([(0xA02, 0, b"")])
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(("last", "lost"), [(errno.EAGAIN, False), (errno.ENOBUFS, True)], ids=["all", "lost"])
def test_waiting_messages_are_read_and_a_loss_is_reported(kernel: Kernel, last: int, lost: bool) -> None:
    sock, end = kernel
    end.answers = [message(0x400, 0, b"abcd") + message(0x401, 0), message(0x400, 0, b"efgh"), OSError(last, "")]

    found, missed = sock.waiting()

    assert [(kind, data[start:stop]) for kind, data, start, stop in found] == [
        (0x400, b"abcd"),
        (0x401, b""),
        (0x400, b"efgh"),
    ]
    assert missed == lost
    assert end.gettimeout() is None


def test_one_object_is_its_answer_or_nothing(kernel: Kernel) -> None:
    sock, end = kernel
    end.answers = [message(0x100, 9, b"else") + message(0x100, 1, b"abcd"), acknowledgement(2, errno.ENOENT)]

    found = sock.get(0x101, nfgenmsg(socket.AF_INET))
    assert found is not None
    data, start, stop = found
    assert data[start:stop] == b"abcd"
    assert sock.get(0x101, nfgenmsg(socket.AF_INET)) is None
    assert end.sent == [message(0x101, number, b"\2\0\0\0", REQUEST) for number in (1, 2)]
