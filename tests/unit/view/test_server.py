"""Who may use the page, and what it answers; without a lab."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sse_starlette.sse import SendTimeoutError

from labctl.kernel.host import lab_state
from labctl.view import page as page_module
from labctl.view import server
from labctl.view.requests import MAX_BODY_BYTES
from labctl.view.server import POLICY, create_app
from tests.support.page import BASE, STATE, STATUS, TOKEN, USAGE, ReplacedPage

POSTS = ("trace", "check", "break", "fix", "capture", "lesson")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReplacedPage:
    return ReplacedPage(tmp_path, monkeypatch)


def test_the_page_is_its_three_files_and_no_other(page: ReplacedPage) -> None:
    assert page.ask("GET", "").text == "this is index.html"
    for name in ("view.js", "view.css"):
        assert page.ask("GET", name).text == f"this is {name}"
    for name in ("secret.txt", "../secret.txt", "%2e%2e/secret.txt", "index.html/x", "/etc/passwd"):
        assert page.ask("GET", name).status_code == 404, name


@pytest.mark.parametrize(
    "address",
    ["/", "//", "/state", "/x/", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"//{TOKEN}/", f"/{TOKEN.upper()}/", "/\u00e9/"],
)
def test_without_the_token_there_is_nothing(page: ReplacedPage, address: str) -> None:
    answer = page.ask("GET", "state", address=address)

    assert answer.status_code == 404
    assert "kubenet" not in answer.text
    assert page.ask("POST", "fix", {}, address=address).status_code == 404
    assert page.verbs.requests == []


def test_an_address_without_the_last_slash_leads_to_the_page(page: ReplacedPage) -> None:
    answer = page.ask("GET", "", address=f"/{TOKEN}")

    assert (answer.status_code, answer.headers["location"]) == (307, f"/{TOKEN}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "localhost:8000", "localhost"])
def test_this_machine_may_have_each_of_its_names_and_any_port(page: ReplacedPage, host: str) -> None:
    assert page.ask("GET", "state", Host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["example.com", "example.com:8000", "127.0.0.1.example.com", "127.0.0.1:80:80", "0.0.0.0", "", "10.0.0.1:8000"],
)
def test_another_host_is_refused(page: ReplacedPage, host: str) -> None:
    for method, path in (("GET", "state"), ("GET", ""), ("POST", "fix")):
        assert page.ask(method, path, Host=host, Origin=f"http://{host}").status_code == 403
    assert page.verbs.requests == []


@pytest.mark.parametrize(
    "origin", [None, "null", "http://example.com", "https://127.0.0.1:8000", "http://127.0.0.1:8001", f"{BASE}/"]
)
@pytest.mark.parametrize("path", POSTS)
def test_a_request_of_another_page_is_refused(page: ReplacedPage, path: str, origin: str | None) -> None:
    answer = page.ask("POST", path, {}, Origin=origin)

    assert answer.status_code == 403
    assert page.verbs.requests == []
    assert page.ask("DELETE", "capture", Origin=origin).status_code == 403
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_form_cannot_send_a_request(page: ReplacedPage, kind: str | None) -> None:
    answer = page.ask("POST", "trace", b'{"from": "a", "to": "b"}', **{"Content-Type": kind})

    assert answer.status_code == 415
    assert page.verbs.requests == []


def test_every_answer_has_the_headers(page: ReplacedPage) -> None:
    for method, path, options in (
        ("GET", "", {}),
        ("GET", "state", {}),
        ("GET", "nothing", {}),
        ("GET", "", {"address": "/wrong/"}),
        ("GET", "", {"Host": "example.com"}),
        ("POST", "trace", {"body": {}}),
    ):
        answer = page.ask(method, path, **options)  # type: ignore[arg-type]
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY.replace("style-src 'self' 'unsafe-inline'", "")


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("trace", b"{", "the request is not JSON"),
        ("trace", b"\xff", "the request is not JSON"),
        ("trace", b"[" * 5000, "the request is not JSON"),
        ("trace", [], "the request is not a JSON object"),
        ("trace", {}, "trace needs from"),
        ("trace", {"from": "a"}, "trace needs to"),
        ("trace", {"from": "a", "to": ["b"]}, "trace: to must be a text"),
        ("trace", {"from": "a", "to": "b\n"}, "trace: to must be a text"),
        ("trace", {"from": "a", "to": "b" * 500}, "trace: to must be a text"),
        ("trace", {"from": "a", "to": "b", "protocol": "sctp"}, "trace: protocol must be icmp, tcp or udp"),
        ("trace", {"from": "a", "to": "b", "port": 0}, "trace: port must be a number from 1 to 65535"),
        ("trace", {"from": "a", "to": "b", "port": True}, "trace: port must be a number from 1 to 65535"),
        ("trace", {"from": "a", "to": "b", "listen": "/bin/sh"}, "trace: listen must be true or false"),
        ("trace", {"from": "a", "to": "b", "prot": 80}, "trace has no key 'prot'"),
        ("check", {"word": 1}, "check: word must be a text"),
        ("break", {}, "break needs either a fault or random"),
        ("break", {"fault": "x", "random": True}, "break needs either a fault or random"),
        ("capture", {"file": "/etc/passwd"}, "capture has no key 'file'"),
    ],
)
def test_a_bad_request_is_one_sentence(page: ReplacedPage, path: str, body: Any, error: str) -> None:
    answer = page.ask("POST", path, body)

    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert page.verbs.requests == []


def test_a_long_request_is_refused(page: ReplacedPage) -> None:
    answer = page.ask("POST", "trace", json.dumps({"from": "a" * MAX_BODY_BYTES}).encode())

    assert (answer.status_code, answer.json()["error"]) == (400, "the request is too long")


def test_an_unknown_machine_is_not_found_and_its_hint_is_typed_here(
    page: ReplacedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "me")
    answer = page.ask("GET", "machine/z")

    assert answer.status_code == 404
    assert answer.json() == {**USAGE, "hint": "sudo labctl show lists them"}
    assert page.reads.requests[-1] == ("machine", {"name": "z"})


@pytest.mark.parametrize(("kind", "status"), [("usage", 400), ("lock", 409), ("kernel", 500), ("bug", 500)])
def test_an_error_of_a_verb_has_a_status(page: ReplacedPage, kind: str, status: int) -> None:
    page.verbs.answers["trace"] = {"error": "it failed", "hint": "", "kind": kind}
    answer = page.ask("POST", "trace", {"from": "a", "to": "b"})

    assert (answer.status_code, answer.json()["error"]) == (status, "it failed")


def test_a_second_verb_is_refused_while_one_works(page: ReplacedPage) -> None:
    async def run() -> None:
        await page.page.load()
        page.verbs.gate = asyncio.Event()
        first = asyncio.create_task(page.send("POST", "trace", {"from": "a", "to": "b"}))
        while not page.verbs.requests:
            await asyncio.sleep(0)
        for path, body in (
            ("trace", {"from": "a", "to": "c"}),
            ("check", {}),
            ("fix", {}),
            ("break", {"random": True}),
        ):
            refused = await page.send("POST", path, body)
            assert (refused.status_code, refused.json()["error"]) == (409, "trace a -> b runs")
        assert (await page.send("GET", "state")).json()["busy"] == {"verb": "trace a -> b"}
        page.verbs.gate.set()
        assert (await first).json() == {"id": 1, "steps": []}
        assert (await page.send("GET", "state")).json()["busy"] is None
        assert (await page.send("POST", "trace", {"from": "a", "to": "b"})).json()["id"] == 2

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_check_that_has_begun_refuses_the_next_at_once(page: ReplacedPage) -> None:
    async def run() -> None:
        await page.page.load()
        page.verbs.gate = asyncio.Event()
        page.verbs.answers["check"] = {"verdict": "pass"}
        answers = [await page.send("POST", "check") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 409]
        page.verbs.gate.set()
        await page.page._checking
        assert [verb for verb, _ in page.verbs.requests] == ["check"]
        assert page.page.busy is None

    asyncio.run(run())


def test_a_check_that_ends_by_an_error_leaves_no_check_running(page: ReplacedPage) -> None:
    def fail(on_event: Any) -> Any:
        on_event({"check": {"id": "0", "text": "check 0", "state": "running"}})
        return {"error": "the kernel refused", "hint": "", "kind": "kernel"}

    async def run() -> None:
        await page.page.load()
        viewer = page.page.viewers.add()
        page.verbs.answers["check"] = fail
        assert (await page.send("POST", "check", {})).status_code == 202
        await page.page._checking
        viewer.close()
        text = b"".join([event async for event in viewer.events()]).decode()
        assert text.count("event: refusal") == 1
        assert [check["state"] for check in page.page.state["checks"]] == ["unknown", "unknown"]

    asyncio.run(run())


def test_the_lock_of_another_process_is_busy(page: ReplacedPage) -> None:
    with lab_state.lock("k"):
        answer = page.ask("POST", "trace", {"from": "a", "to": "b"})

    assert answer.status_code == 409
    assert answer.json()["error"].endswith(" works on the lab")
    assert lab_state.lock_holder("k") is None


def test_a_lab_that_is_gone_says_so(page: ReplacedPage) -> None:
    page.namespace.unlink()
    for method, path, body in (
        ("POST", "trace", {"from": "a", "to": "b"}),
        ("POST", "check", {}),
        ("POST", "capture", {}),
    ):
        answer = page.ask(method, path, body)
        assert (answer.status_code, answer.json()["error"]) == (410, "the lab k does not run any more")


def test_a_look_publishes_only_what_differs(page: ReplacedPage) -> None:
    drift = [{"machine": "a", "device": None, "kind": "extra", "text": "extra route"}]

    async def run() -> list[str]:
        await page.page.load()
        viewer = page.page.viewers.add()
        await page.page._look()
        page.reads.answers["status"] = {**STATUS, "drift": drift}
        await page.page._look()
        await page.page._look()
        page.reads.answers["status"] = {"gone": True}
        await page.page._look()
        await page.page._look()
        page.reads.answers["status"] = {**STATUS, "stamp": "2"}
        page.reads.answers["state"] = {**STATE, "stamp": "2"}
        await page.page._look()
        viewer.close()
        return [event.decode().split("\n")[0] async for event in viewer.events()]

    assert asyncio.run(run()) == ["event: drift", "event: end", "event: state"]


def test_a_look_beside_a_verb_does_not_count(page: ReplacedPage) -> None:
    """A trace puts a table into the lab for its run."""

    async def run() -> None:
        await page.page.load()
        page.reads.answers["status"] = {**STATUS, "drift": ["the table of a trace"]}
        page.page._set_busy({"verb": "trace"})
        await page.page._look()
        page.page._set_busy(None)
        with lab_state.lock("k"):
            await page.page._look()

        def begin(_: Any) -> Any:
            page.page._number += 1  # a verb began and ended while the lab was read
            return {**STATUS, "drift": ["the table of a trace"]}

        page.reads.answers["status"] = begin
        await page.page._look()
        assert page.page.state["drift"] == []

    asyncio.run(run())


def test_a_lab_that_is_slow_to_read_is_read_less_often(page: ReplacedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []

    async def run() -> None:
        await page.page.load()
        page.page.viewers.add()
        loop = asyncio.get_running_loop()
        clock = iter([0.0, 0.01, 10.0, 10.3])
        monkeypatch.setattr(loop, "time", lambda: next(clock))

        async def pause(waiting: Any, interval_s: float) -> None:
            waiting.close()
            pauses.append(round(interval_s, 6))
            if len(pauses) == 2:
                raise asyncio.CancelledError
            raise asyncio.TimeoutError

        monkeypatch.setattr(asyncio, "wait_for", pause)
        try:
            await page.page.watch()
        except asyncio.CancelledError:
            pass
        monkeypatch.undo()

    asyncio.run(run())
    assert pauses == [1.0, 6.0]


def test_a_browser_that_reads_nothing_is_given_up(page: ReplacedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SEND_TIMEOUT_S", 0.05)
    headers = [(b"host", b"127.0.0.1:8000")]
    scope = {"type": "http", "method": "GET", "path": f"/{TOKEN}/events", "headers": headers, "query_string": b""}

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    async def run() -> None:
        await page.page.load()
        with pytest.raises(SendTimeoutError):
            await page.app(scope, receive, send)
        assert len(page.page.viewers) == 0

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_lab_that_cannot_be_read_is_reported_once_and_again_after_it_could(
    page: ReplacedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {"error": "the definition is lost", "hint": "", "kind": "usage"}
    answers = iter([lost, lost, STATUS, lost, {"gone": True}])
    monkeypatch.setattr(page_module, "LOOK_INTERVAL_S", 0.001)
    monkeypatch.setattr(page_module, "LOOK_SHARE", 1000.0)

    async def run() -> list[str]:
        await page.page.load()
        viewer = page.page.viewers.add()
        page.reads.answers["status"] = lambda _: next(answers)
        watching = asyncio.create_task(page.page.watch())
        names = []
        async for event in viewer.events():
            names.append(event.decode().split("\n")[0])
            if names[-1] == "event: end":
                viewer.close()
        watching.cancel()
        return names

    assert asyncio.run(asyncio.wait_for(run(), 20)) == ["event: refusal", "event: refusal", "event: end"]


def test_the_page_is_served_in_its_language(page: ReplacedPage, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<!doctype html><html lang="en">')
    page.app = create_app(page.page, TOKEN, tmp_path, "ja")

    assert page.ask("GET", "").text == '<!doctype html><html lang="ja">'


def test_reasons_are_asked_for_a_machine_or_one_object(page: ReplacedPage) -> None:
    page.reads.answers["reasons"] = {"reasons": []}

    assert page.ask("GET", "reasons/node1").json() == {"reasons": []}
    page.ask("GET", "reasons/node1?object=route%20default")
    asked = [arguments for verb, arguments in page.reads.requests if verb == "reasons"]
    assert asked == [{"name": "node1", "object": ""}, {"name": "node1", "object": "route default"}]


def test_a_lesson_is_read_and_its_steps_are_verbs(page: ReplacedPage) -> None:
    page.reads.answers["lesson"] = {"lessons": [], "session": None}
    page.verbs.answers["lesson"] = {"lessons": [], "session": None, "traced": {"steps": []}}

    assert page.ask("GET", "lesson").json() == {"lessons": [], "session": None}
    assert page.verbs.requests == []
    assert page.ask("POST", "lesson", {"action": "next", "answer": "lost"}).json() == {"lessons": [], "session": None}
    assert page.verbs.requests == [("lesson", {"action": "next", "answer": "lost"})]
    assert page.ask("POST", "lesson", {"action": "jump"}).status_code == 400
    assert page.ask("POST", "lesson", {}).status_code == 400
