"""A catalogue: labctl.po, which people edit, and labctl.mo, which Python reads. Both are in git, and nothing in them
depends on the machine or the day that wrote them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from babel.messages import Catalog
from babel.messages import Message as Entry
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po
from messages import ROOT, Message, collect  # beside this file

LOCALE = ROOT / "labctl/translation/locale"
HEADERS = ("Language", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Plural-Forms")


class StableCatalog(Catalog):
    """A catalogue whose header has no dates, persons and versions."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in super().mime_headers if name in HEADERS]


def codes() -> list[str]:
    """The languages that have a catalogue."""
    return sorted(path.name for path in LOCALE.iterdir() if path.is_dir())


def po_path(code: str) -> Path:
    return LOCALE / code / "LC_MESSAGES/labctl.po"


def read(code: str) -> Catalog:
    """The catalogue as it is in its labctl.po."""
    with po_path(code).open("rb") as file:
        return read_po(file, locale=code)


def updated(code: str, *, new_click: bool = True) -> StableCatalog:
    """The catalogue with the sentences that exist now, and the translations that it has. What it no longer needs is
    gone: git remembers it. click's messages stay as they are, because another version of click may have them; with
    `new_click`, those of the installed click are added."""
    wanted = {message: origins for message, origins in collect().items() if new_click or not is_clicks(origins)}
    before = read(code) if po_path(code).exists() else Catalog(locale=code)
    for entry in before:
        origins = {name for name, _ in entry.locations}
        if entry.id and origins and is_clicks(origins) and is_clicks(wanted.get(key_of(entry), set())):
            wanted[key_of(entry)] = origins
    after = StableCatalog(locale=code, fuzzy=False, header_comment="# The sentences of labctl.")
    for message in sorted(wanted, key=lambda one: (one, "") if isinstance(one, str) else one):
        old = before.get(message)
        known = old is not None and key_of(old) == message
        origins = [(name, 0) for name in sorted(wanted[message])]
        after.add(message, old.string if known else None, origins, flags=old.flags & {"fuzzy"} if known else ())
    return after


def is_clicks(origins: set[str]) -> bool:
    """Whether a message is click's alone."""
    return all(name.startswith("click/") for name in origins)


def key_of(entry: Entry) -> Message:
    return entry.id if isinstance(entry.id, str) else (entry.id[0], entry.id[1])


def po_text(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_po(file, catalog, width=0, include_lineno=False, sort_output=True)
    lines = file.getvalue().decode().splitlines()
    # which formats a template has is seen from itself; Babel only knows those of Python's % and of braces by chance
    return ("\n".join(line for line in lines if not line.startswith("#, python")).strip() + "\n").encode()


def mo_bytes(catalog: Catalog) -> bytes:
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def stable(catalog: Catalog, code: str) -> StableCatalog:
    """A catalogue that was read, with the header that is written."""
    after = StableCatalog(locale=code, fuzzy=False)
    for entry in catalog:
        if entry.id and all(forms(entry)):  # else the English text is written as a translation
            after.add(entry.id, entry.string, flags=entry.flags & {"fuzzy"})
    return after


def compile_catalogue(code: str) -> None:
    po_path(code).with_suffix(".mo").write_bytes(mo_bytes(stable(read(code), code)))


def update(code: str) -> None:
    po_path(code).parent.mkdir(parents=True, exist_ok=True)
    po_path(code).write_bytes(po_text(updated(code)))
    compile_catalogue(code)


def problems(code: str) -> Iterator[str]:
    """What is wrong with a catalogue, in sentences."""
    catalog, wanted = read(code), collect()
    entries = {key_of(entry): entry for entry in catalog if entry.id}
    for message, origins in sorted(wanted.items(), key=str):
        if message not in entries and not is_clicks(origins):
            yield f"not in the catalogue: {message!r} of {min(origins)}"
    for message, entry in entries.items():
        if message not in wanted and not is_clicks({name for name, _ in entry.locations}):
            yield f"no longer said: {message!r}"
        elif not all(forms(entry)):
            yield f"without a translation: {message!r}"
        elif entry.fuzzy:
            yield f"marked as fuzzy: {message!r}"
        else:
            yield from wrong_placeholders(entry)
    if catalog.obsolete:
        yield f"{len(catalog.obsolete)} old sentences stand in comments"
    path = po_path(code).with_suffix(".mo")
    if not path.exists() or compiled_entries(path) != translations(catalog):
        yield f"{path.name} was not compiled from {path.stem}.po"


def compiled_entries(path: Path) -> dict[Message, tuple[str, ...]]:
    with path.open("rb") as file:
        return translations(read_mo(file))


def translations(catalog: Catalog) -> dict[Message, tuple[str, ...]]:
    return {key_of(entry): forms(entry) for entry in catalog if entry.id and all(forms(entry)) and not entry.fuzzy}


def forms(entry: Entry) -> tuple[str, ...]:
    """The translation: one text, or one for each form of the plural."""
    return (entry.string,) if isinstance(entry.string, str) else tuple(entry.string or ("",))


def wrong_placeholders(entry: Entry) -> Iterator[str]:
    """A translation has the placeholders of its template, each as it is there. Of a sentence that depends on a number,
    it has those of the template for one or of that for many."""
    originals = [entry.id] if isinstance(entry.id, str) else list(entry.id)
    allowed = [placeholders(one) for one in originals]
    for text in forms(entry):
        if placeholders(text) not in allowed:
            yield f"other placeholders than {originals[-1]!r}: {text!r}"


def placeholders(template: str) -> set[str] | str:
    """The placeholders of a template, with their formats. A text that is no template has no values, and is its own
    kind: it must not look like a template in one language only."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError:
        return "no template"
    return {f"{name}!{conversion}:{form}" for _, name, form, conversion in parsed if name is not None}
