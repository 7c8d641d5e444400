"""One HTTP request and its answer, as a probe.

The request has a marker in a header, so that a connection that a proxy opens for it is recognised as well.
"""

from __future__ import annotations

from labctl.core.resources import IP
from labctl.core.results import BackendAnswer
from labctl.core.sentence import sentence
from labctl.kernel.probes.backend_questions import MAX_ANSWER_BYTES, read_answer
from labctl.kernel.probes.clients import StreamClient
from labctl.packets.probe_id import REQUEST_SUFFIX

MARKER_HEADER = "X-Labctl-Probe"


class HttpClient(StreamClient):
    """One connection with one GET request. `status` is that of the answer, None as long as there is none, and
    `backend` what a server of labctl says in it. Raises OSError."""

    def __init__(self, address: IP, port: int, marker: bytes, host: str, path: str) -> None:
        super().__init__(address)
        self.status: int | None = None
        self.backend = BackendAnswer()
        self.marker = marker.hex().encode()
        fields = (f"GET {path} HTTP/1.1", f"Host: {host}", "Accept: application/json", "Connection: close")
        value = (self.marker + REQUEST_SUFFIX).decode()
        self._request = "\r\n".join((*fields, f"{MARKER_HEADER}: {value}", "", "")).encode()
        self._bind(None, port)
        self._connect(address, port)

    def _step(self) -> None:
        if not self._is_connected:
            if not self._check_connection():
                return None
            self._is_connected = True
            self.detail = sentence("connected, but no answer to the HTTP request came")
            self._socket.send(self._request)
        while data := self._socket.recv(4096):
            self._received += data
            if len(self._received) > MAX_ANSWER_BYTES:
                break
        return self._read_answer()

    def _read_answer(self) -> None:
        """The end of the connection is the end of the answer."""
        head, _, body = self._received.partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        if not head.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
            return self.set_answer("unreachable", sentence("connected, but the answer is not HTTP"))
        self.status, self.backend = int(words[1]), read_answer(body)
        return self.set_answer("reply", sentence("status {status}", status=self.status))
