"""HTTP requests without a body, and the answers to them: as much of HTTP as labctl's own servers need."""

from __future__ import annotations

METHODS = (b"GET ", b"HEAD ")
MAX_REQUEST_BYTES = 65536  # of a request's head; the rest is not read


class Request:
    """The head of a request. The names of `headers` are in lower case."""

    __slots__ = ("headers", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.method, self.path, self.headers = method, path, headers

    def wants(self, media_type: str) -> bool:
        """Whether the client asks for this media type by name."""
        return media_type in self.headers.get("accept", "")


def begins_request(data: bytes) -> bool:
    """Whether these are the first bytes of a request."""
    return data.startswith(METHODS)


def parse_request(data: bytes) -> Request | None:
    """The request that has these bytes as its head; None as long as the end is missing.

    A request line without a version, as of HTTP 0.9, is complete at its end.
    """
    text = data.decode("latin-1").replace("\r\n", "\n")
    line, newline, rest = text.partition("\n")
    words = line.split(" ")
    if not newline or (len(words) > 2 and "\n\n" not in text and len(data) < MAX_REQUEST_BYTES):
        return None
    fields = (one.partition(":") for one in rest.partition("\n\n")[0].splitlines())
    headers = {name.strip().lower(): value.strip() for name, colon, value in fields if colon}
    return Request(words[0], words[1] if len(words) > 1 else "/", headers)


def answer(request: Request, status: str, body: bytes, media_type: str, *fields: str) -> bytes:
    """The answer to a request: a status such as `200 OK`, the body, and more header fields. To HEAD, without the
    body."""
    lines = (f"HTTP/1.0 {status}", f"Content-Type: {media_type}", f"Content-Length: {len(body)}", *fields, "", "")
    return "\r\n".join(lines).encode() + (b"" if request.method == "HEAD" else body)
