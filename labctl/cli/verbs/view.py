"""labctl view: the page of a running lab in a browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from labctl.cli.options import global_options
from labctl.cli.param_types import LAB, NumberParam
from labctl.cli.session import Session
from labctl.errors import MissingError, UsageError

NEEDED = ("starlette", "uvicorn", "sse_starlette")


@click.command("view", short_help="Show a running lab in a browser, live.")
@click.argument("shown", metavar="[LAB]", required=False, type=LAB)
@click.option("--port", type=NumberParam(0, 65535), default=0, metavar="N", help="The port; by default an unused one.")
@click.option("--export", metavar="FILE.html", type=click.Path(), help="Write the page to a file instead, and end.")
@click.option(
    "--record", is_flag=True, help="With --export: first run the checks, and trace what they are about, to be played."
)
@global_options("lab", "json", "lang")
@click.pass_obj
def view(session: Session, shown: str | None, port: int, export: str | None, record: bool) -> int:
    """Serve the page of a running lab on 127.0.0.1, and print its address; ^C ends it.

    The page shows the drawing of the lab, its checks as they pass, drift as it happens, the path of a packet between
    any two machines, the tables of a machine, and packets as they flow; it breaks the lab and fixes it. It loads
    nothing from the network. Whoever knows the address, with the token in it, may do all that, so share it with care.
    All who look at the page see the same; one verb works at a time.

    The browser may run on another machine: `ssh -L PORT:127.0.0.1:PORT HOST` there, or with Vagrant
    `vagrant ssh -- -L PORT:127.0.0.1:PORT`, makes the address work as it is printed.

    \b
    Examples:
      sudo labctl view
      sudo labctl view kubenet --port 8080
      sudo labctl view --export kubenet.html --record
    """
    from labctl.kernel.host import loopback
    from labctl.lab.records import resolve_lab_name
    from labctl.report.json_documents import view_document

    if shown is not None and session.lab is not None and shown != session.lab:
        raise UsageError(f"view: {shown!r} and -l {session.lab} are two labs", "name one of them")
    if export is None and record:
        raise UsageError("--record is for --export FILE.html", "the page itself runs checks and traces")
    session.require_root()
    name = resolve_lab_name(shown or session.lab)
    if export is not None:
        return _export(session, name, export, record)
    _require_libraries()
    static = _built_page()
    listening = loopback.listen(port)
    from labctl.view.run import serve

    def announce(address: str) -> None:
        if session.json:
            session.print_document(view_document(name, address, listening.getsockname()[1]))
        else:
            session.terminal.line(address)
            session.terminal.print_stderr(f"the page of {name}; ^C ends it")
        session.terminal.flush()

    with listening:
        serve(name, listening, static, announce)
    return 0


def _export(session: Session, name: str, file: str, play: bool) -> int:
    """Write the page with what it shows now to a file."""
    from labctl.report.json_documents import view_export_document
    from labctl.report.output_files import require_writable, write
    from labctl.translation.language import current_language
    from labctl.view.export import page_file
    from labctl.view.record import record

    require_writable(file)
    static = _built_page()
    session.handle_termination()
    document = record(name, session.terminal.progress, play=play)
    write(file, page_file(static, document, current_language()))
    session.terminal.clear()
    if session.json:
        session.print_document(view_export_document(name, file, len(document["traces"])))
    else:
        session.terminal.line(f"{file} shows {name}; it needs no server")
    return 0


def _require_libraries() -> None:
    """Raises MissingError if what the server needs is not installed."""
    missing = [name.replace("_", "-") for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingError(f"labctl view needs {', '.join(missing)}", "pip install 'labctl[view]'")


def _built_page() -> Path:
    """The folder of the built page. Raises MissingError if it is not built."""
    import labctl.view

    static = Path(labctl.view.__file__).parent / "static"
    if not (static / "index.html").is_file():
        raise MissingError("the page of labctl view is not built", "scripts/build-view builds it, in the source tree")
    return static


COMMAND = view
