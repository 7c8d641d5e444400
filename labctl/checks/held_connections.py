"""Connections that stay open while a check sends its probe: the key `while_open` of a check."""

from __future__ import annotations

import secrets
import select
import time

from labctl.checks.context import CheckContext, open_listener
from labctl.core.scenario_types import Check, OpenConnections
from labctl.core.sentence import joined, sentence
from labctl.core.text import count
from labctl.errors import KernelError
from labctl.kernel.host import paths
from labctl.kernel.probes.clients import TcpClient
from labctl.kernel.probes.listener import Listener
from labctl.packets.probe_id import MAGIC

OPENING_TIMEOUT_S = 12.0  # seconds in which all of them must be answered
AT_ONCE = 8  # connections that are being opened at the same time: fewer than a listener's backlog


class HeldConnections:
    """Open TCP connections that a check names. `close` resets them, so that they end at once."""

    def __init__(self) -> None:
        self._clients: list[TcpClient] = []
        self._own_listener: Listener | None = None

    def open(self, context: CheckContext, held: OpenConnections, check: Check, listener: Listener | None) -> None:
        """Open the connections and wait until each was answered. `listener` is that of the check, which serves them if
        they have the same target and port. Raises KernelError if one was not answered: then the check cannot prove
        anything."""
        address = next(iter(context.topology.addresses(held.target)), None)
        if address is None:
            raise KernelError(sentence("{target} has no address", target=held.target))
        if (held.target, held.port) != (check.target, check.port) and check.listen:
            node = context.topology.namespace_of(held.target)
            listener, _ = open_listener(context, node, "tcp", address, held.port)
            self._own_listener = listener
        path, deadline = paths.netns_path(context.lab, held.source), time.monotonic() + OPENING_TIMEOUT_S
        try:
            while len(self._clients) < held.count and time.monotonic() < deadline:
                for _ in range(min(AT_ONCE, held.count - len(self._clients))):
                    marker = MAGIC + secrets.token_bytes(4) if listener is not None else None
                    client = context.thread.run(path, TcpClient, address, held.port, marker, None, True)
                    self._clients.append(client)
                self._wait(listener, deadline)
        except OSError as error:
            raise KernelError(
                sentence(
                    "{source} cannot open a connection: {error}", source=held.source, error=error.strerror or error
                )
            ) from None
        answered = sum(client.answer == "reply" for client in self._clients)
        if answered < held.count:
            lost = next((one for one in self._clients if one.answer != "reply"), None)
            wanted = count(held.count, "connection")
            text = sentence(
                "only {answered} of {wanted} that the check keeps open were established",
                answered=answered,
                wanted=wanted,
            )
            raise KernelError(text if lost is None else joined(": ", (text, lost.detail or sentence("no answer"))))

    def _wait(self, listener: Listener | None, deadline: float) -> None:
        """Serve the listener until every client has an answer."""
        while waiting := [client for client in self._clients if client.answer is None]:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            poll = select.poll()
            listening = listener.fds() if listener is not None else []
            for fd, events in (*(pair for client in waiting for pair in client.fds()), *listening):
                poll.register(fd, events)
            poll.poll(max(1, left * 1000))
            if listener is not None:
                listener.step()
            for client in waiting:
                client.step()

    def close(self) -> None:
        """End all connections with a reset: no side keeps their ports."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self._own_listener is not None:
            self._own_listener.close()
            self._own_listener = None
