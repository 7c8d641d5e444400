"""The socket of the page: on the loopback address, on the wanted port or an unused one."""

from __future__ import annotations

import socket

import pytest

from labctl.errors import KernelError, UsageError
from labctl.kernel.host import loopback


def test_it_listens_on_the_loopback_address_alone() -> None:
    with loopback.listen(0) as one:
        address, port = one.getsockname()
        assert address == "127.0.0.1"
        with socket.create_connection((address, port), timeout=5):
            pass


def test_a_port_that_is_used_is_named() -> None:
    with loopback.listen(0) as one:
        port = one.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} of 127\.0\.0\.1 is in use"):
            loopback.listen(port)


def test_a_socket_that_was_kept_is_the_one_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the namespace in which it was made."""
    loopback.keep_socket()
    (kept,) = loopback._kept
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a second socket"))
    with loopback.listen(0) as one:
        assert one is kept
    assert loopback._kept == []


def test_a_refusal_of_the_kernel_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(socket.socket):
        def listen(self, *_: int) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(KernelError, match=r"cannot listen on port 0 of 127\.0\.0\.1: Permission denied"):
        loopback.listen(0)
