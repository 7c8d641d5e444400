"""The server of the page: what a browser may ask, and who may ask at all."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labctl.errors import LabError, UsageError
from labctl.translation.language import ORIGINAL
from labctl.view.export import in_language
from labctl.view.page import LabPage
from labctl.view.processes import BusyError, GoneError, WorkerError
from labctl.view.requests import MAX_BODY_BYTES, parse
from labctl.view.viewers import TooManyViewersError, encode_event

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
HOSTS = ("127.0.0.1", "localhost")  # with any port: a tunnel (ssh -L) can have another one
FILES = {"": "index.html", "view.js": "view.js", "view.css": "view.css"}
SEND_TIMEOUT_S = 15.0  # seconds after which a browser that reads no events is given up
PING_S = 15  # seconds between two comments in a stream without events
STATUS = {"usage": 400, "scenario": 400, "lock": 409, "busy": 409}  # of an error by its kind; else 500
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_app(page: LabPage, token: str, static: Path, language: str = ORIGINAL) -> ASGIApp:
    """The ASGI application for one lab. `static` is the folder of the built page, `language` that of its texts."""
    routes = [Route(path, _answered(page, handler), methods=[method]) for path, method, handler in ROUTES]
    files = [Route(path, _file(static, language)) for path in ("/", "/{name:str}")]
    return Guard(Starlette(routes=[*routes, *files]), token)


class Guard:
    """Lets only those in who know the token, and only from the page itself.

    The Host header must name this machine's loopback address: a page of the internet that gives its own name this
    address (DNS rebinding) sends its own name. A request that changes something must come from this page (Origin).
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        path = "/" + scope["path"].removeprefix("/").partition("/")[2]
        await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or host.rsplit(":", 1)[0] not in HOSTS:
            return _error(403, "this page is only for this machine", "use the address that labctl view has printed")
        token, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(errors="replace"), self._token):
            return _error(404, "there is no such page", "use the whole address that labctl view has printed")
        if not slash:
            return RedirectResponse(f"/{token}/")
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("origin") != f"http://{host}":
                return _error(403, "only the page itself may ask for this")
            has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
            if has_body and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return _error(415, "the request is not JSON", "Content-Type: application/json")
        return None


def _error(status: int, error: str, hint: str = "") -> JSONResponse:
    return JSONResponse({"error": error, "hint": hint}, status)


def _file(static: Path, language: str) -> Handler:
    async def send_file(request: Request) -> Response:
        name = FILES.get(request.path_params.get("name", ""))
        if name == "index.html":
            return HTMLResponse(in_language((static / name).read_text(), language))
        return _error(404, "there is no such page") if name is None else FileResponse(static / name)

    return send_file


def _answered(page: LabPage, handler: Callable[[LabPage, Request], Awaitable[Response]]) -> Handler:
    """The handler, with errors as JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(page, request)
        except (BusyError, GoneError, WorkerError, LabError) as error:
            document = page.error_document(error)
            status = 410 if isinstance(error, GoneError) else STATUS.get(document["kind"], 500)
            return JSONResponse(document, status)
        except ClientDisconnect:
            return Response(status_code=499)

    return answer


async def _arguments(request: Request, verb: str) -> dict[str, object]:
    """The arguments of the request's body. Raises UsageError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise UsageError("the request is too long", f"at most {MAX_BODY_BYTES} bytes")
    return parse(verb, bytes(body))


async def _state(page: LabPage, request: Request) -> Response:
    await page.refresh()
    return JSONResponse(page.document())


async def _events(page: LabPage, request: Request) -> Response:
    try:
        viewer = page.viewers.add()
    except TooManyViewersError:
        return _error(503, "too many people watch this page", "close some of its windows")
    viewer.put(encode_event("state", page.changing()))

    async def stream() -> AsyncIterator[bytes]:
        try:
            async with aclosing(viewer.events()) as events:
                async for event in events:
                    yield event
        finally:
            page.viewers.remove(viewer)
            page.capture.end_if_unwatched()

    return EventSourceResponse(stream(), ping=PING_S, send_timeout=SEND_TIMEOUT_S)


async def _trace(page: LabPage, request: Request) -> Response:
    return JSONResponse(await page.trace(await _arguments(request, "trace")))


async def _check(page: LabPage, request: Request) -> Response:
    page.check(await _arguments(request, "check"))
    return JSONResponse({}, 202)


async def _machine(page: LabPage, request: Request) -> Response:
    try:
        return JSONResponse(await page.machine(request.path_params["name"]))
    except WorkerError as error:
        if error.document["kind"] == "usage":
            return JSONResponse(page.error_document(error), 404)
        raise


async def _reasons(page: LabPage, request: Request) -> Response:
    return JSONResponse(await page.reasons(request.path_params["name"], request.query_params.get("object", "")))


async def _lesson(page: LabPage, request: Request) -> Response:
    return JSONResponse(await page.lesson({}))


async def _lesson_step(page: LabPage, request: Request) -> Response:
    return JSONResponse(await page.lesson(await _arguments(request, "lesson")))


async def _break(page: LabPage, request: Request) -> Response:
    return JSONResponse(await page.break_or_fix("break", await _arguments(request, "break")))


async def _fix(page: LabPage, request: Request) -> Response:
    return JSONResponse(await page.break_or_fix("fix", await _arguments(request, "fix")))


async def _start_capture(page: LabPage, request: Request) -> Response:
    return JSONResponse(await page.capture.start(await _arguments(request, "capture")))


async def _stop_capture(page: LabPage, request: Request) -> Response:
    await page.capture.stop()
    return JSONResponse({})


ROUTES = (
    ("/state", "GET", _state),
    ("/events", "GET", _events),
    ("/machine/{name:str}", "GET", _machine),
    ("/reasons/{name:str}", "GET", _reasons),
    ("/lesson", "GET", _lesson),
    ("/lesson", "POST", _lesson_step),
    ("/trace", "POST", _trace),
    ("/check", "POST", _check),
    ("/break", "POST", _break),
    ("/fix", "POST", _fix),
    ("/capture", "POST", _start_capture),
    ("/capture", "DELETE", _stop_capture),
)
