"""Serve the page of a lab until ^C."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from labctl.errors import KernelError, LabError, LimitError, LockError, MissingError, UsageError
from labctl.translation.language import current_language
from labctl.view.page import LabPage
from labctl.view.processes import WorkerError
from labctl.view.server import create_app

if TYPE_CHECKING:
    from labctl.kernel.host.loopback import Listening

TOKEN_BYTES = 24
END_TIMEOUT_S = 3  # seconds that open connections may take at the end
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ERRORS: dict[str, type[LabError]] = {
    one.kind: one for one in (UsageError, KernelError, LimitError, LockError, MissingError)
}


class PageServer(uvicorn.Server):
    """uvicorn without its own handling of signals: here they first end the streams of events."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(lab: str, listening: Listening, static: Path, announce: Callable[[str], None]) -> None:
    """Serve the page of a lab on this socket until SIGINT, SIGTERM or SIGHUP. `announce` gets its address.

    Raises LabError if the lab cannot be read.
    """
    asyncio.run(_serve(lab, listening, static, announce))


async def _serve(lab: str, listening: Listening, static: Path, announce: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # that of nohup stays
            loop.add_signal_handler(number, stop.set)
    page = LabPage(lab)
    stopped, loading = loop.create_task(stop.wait()), loop.create_task(page.load())
    try:
        await asyncio.wait((stopped, loading), return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return
        loading.result()
        await _serve_until(stopped, page, listening, static, announce)
    except WorkerError as error:
        raise _lab_error(error) from None
    finally:
        await page.close()
        stopped.cancel()
        await asyncio.gather(stopped, loading, return_exceptions=True)


async def _serve_until(
    stopped: asyncio.Task[object], page: LabPage, listening: Listening, static: Path, announce: Callable[[str], None]
) -> None:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    app = create_app(page, token, static, current_language())
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False,
        log_level="error", server_header=False, proxy_headers=False, timeout_graceful_shutdown=END_TIMEOUT_S,
    )  # fmt: skip
    server = PageServer(config)
    host, port = listening.getsockname()
    announce(f"http://{host}:{port}/{token}/")  # the socket listens already
    loop = asyncio.get_running_loop()
    serving, watching = loop.create_task(server.serve(sockets=[listening])), loop.create_task(page.watch())
    done, _ = await asyncio.wait((stopped, serving, watching), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    watching.cancel()
    await asyncio.gather(serving, page.close())  # a request that waits for a verb gets an answer, so the server can end
    for task in done - {stopped}:
        task.result()  # it ended by itself: raises why


def _lab_error(error: WorkerError) -> LabError:
    document = error.document
    return ERRORS.get(document["kind"], LabError)(document["error"], document["hint"])
