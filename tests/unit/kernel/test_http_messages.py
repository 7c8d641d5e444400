"""The heads of HTTP requests, whole and in parts, and the answers to them."""

from __future__ import annotations

import pytest

from labctl.kernel.programs.http_messages import MAX_REQUEST_BYTES, Request, answer, begins_request, parse_request


@pytest.mark.parametrize(
    ("data", "begins"), [(b"GET / HTTP/1.1\r\n", True), (b"HEAD /x", True), (b"GETTER", False), (b"labctl\x01", False)]
)
def test_what_begins_a_request(data: bytes, begins: bool) -> None:
    assert begins_request(data) is begins


def test_a_request_is_complete_at_the_empty_line() -> None:
    whole = b"GET /who?x=1 HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-For:  192.0.2.1 \r\n\r\n"

    assert [parse_request(whole[:end]) for end in (3, 20, len(whole) - 2)] == [None, None, None]
    found = parse_request(whole)
    assert found is not None
    assert (found.method, found.path) == ("GET", "/who?x=1")
    assert found.headers == {"host": "web.example", "x-forwarded-for": "192.0.2.1"}


def test_lines_without_carriage_returns_and_requests_without_a_version() -> None:
    typed = parse_request(b"GET /a HTTP/1.0\nAccept: application/json\n\n")
    oldest = parse_request(b"GET /b\n")

    assert typed is not None
    assert typed.wants("application/json")
    assert not typed.wants("text/html")
    assert oldest is not None
    assert oldest.path == "/b"


def test_an_endless_head_is_read_as_far_as_the_limit() -> None:
    endless = b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * MAX_REQUEST_BYTES

    assert parse_request(endless[:1000]) is None
    assert parse_request(endless[:MAX_REQUEST_BYTES]) is not None


def test_an_answer_has_its_length_and_head_gets_no_body() -> None:
    get, head = (
        answer(Request(method, "/", {}), "200 OK", b"web\n", "text/plain", "A: b") for method in ("GET", "HEAD")
    )

    assert get == b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nA: b\r\n\r\nweb\n"
    assert head == get[: -len(b"web\n")]
