"""The record of a lab's definition, which `up` writes and every other verb reads. Fast to import."""

from __future__ import annotations

from labctl.core.record_shape import a_pair_of_texts, a_word
from labctl.kernel.host import paths, state_files

TYPE_CHECKING = False  # and not typing's own, which costs more than all the rest here
if TYPE_CHECKING:
    from typing import Any

DEFINITION = "definition.json"


# older records have no `firewall`; with `encoded`, `text`, `sets` and the texts of `files` are (core.hidden_text)
DEFINITION_SHAPE = {
    "file": str,
    "text": str,
    "sets": [str],
    "model?": (str, None),
    "approximate?": [str],
    "firewall?": (str, None),
    "files?": [a_pair_of_texts],
    "manifests?": [str],
    "encoded?": bool,
    "machines?": [{"name": a_word, "within?": (a_word, None), "namespace?": a_word, "addresses": [a_word]}],
    "services?": [{"names": [a_word], "addresses": [a_word]}],
    "dns?": [{"name": a_word, "address": a_word}],
}


def load(lab: str) -> dict[str, Any] | None:
    """The recorded definition of a lab, of DEFINITION_SHAPE; None if there is none or it cannot be used."""
    try:
        return _decoded(state_files.read_json(lab, DEFINITION, DEFINITION_SHAPE))
    except (FileNotFoundError, state_files.RecordError):
        return None


def firewall(lab: str) -> str | None:
    """The backend that the record names, "" if it names none; None if there is no record, or not that of a lab. A large
    lab has thousands of machines in its record, which are not looked at."""
    shape = {key: DEFINITION_SHAPE[key] for key in ("file", "text", "sets", "firewall?")}
    try:
        return state_files.read_json(lab, DEFINITION, shape).get("firewall") or ""
    except (FileNotFoundError, state_files.RecordError):
        return None


def problem(lab: str) -> str:
    """Why the recorded definition of a lab cannot be used, as the end of a sentence on it; "" if it can."""
    try:
        _decoded(state_files.read_json(lab, DEFINITION, DEFINITION_SHAPE))
    except FileNotFoundError:
        return "is lost"
    except state_files.RecordError as error:
        return f"cannot be used: {paths.state_dir() / lab / DEFINITION}: {error}"
    return ""


def encoded(record: dict[str, Any]) -> dict[str, Any]:
    """A record in which the text of the scenario, and what was set in it, cannot be read by accident."""
    from labctl.core.hidden_text import encode

    files = [[name, encode(text)] for name, text in record["files"]]
    sets = [encode(one) for one in record["sets"]]
    return {**record, "encoded": True, "text": encode(record["text"]), "sets": sets, "files": files}


def _decoded(record: dict[str, Any]) -> dict[str, Any]:
    """The record with plain texts. Raises RecordError."""
    if not record.get("encoded"):
        return dict(record)
    from labctl.core.hidden_text import decode

    try:
        files = [[name, decode(text)] for name, text in record.get("files", ())]
        sets = [decode(one) for one in record["sets"]]
        return {**record, "text": decode(record["text"]), "sets": sets, "files": files}
    except ValueError as error:
        raise state_files.RecordError(str(error)) from None
