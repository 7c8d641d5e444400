"""labctl explain: why the objects of a lab are there, and what the words mean."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from labctl.cli.options import global_options, manifests_option, print_warnings, sets_option
from labctl.cli.param_types import ScenarioParam
from labctl.cli.session import Session
from labctl.errors import LabError, UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab
    from labctl.explanation.glossary import Entry

MOST_IN_FULL = 3  # objects; more are a list, unless -v


class ExplainedParam(ScenarioParam):
    """A running lab, a scenario, a node of the running lab, or a term of the glossary."""

    name = "subject"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.cli.glossary_page import entries
        from labctl.explanation.glossary import terms
        from labctl.kernel.host import paths

        labs = paths.labs()
        names = [*labs, *labs.get(paths.default_lab(labs) or "", ())]
        names += [term for term in terms(entries()) if " " not in term] if incomplete else []
        mine = [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]
        values = {item.value for item in mine}
        scenarios = super().shell_complete(ctx, param, incomplete)
        return [*mine, *(one for one in scenarios if one.value not in values and (one.type == "plain" or not mine))]


class ExplainedObjectParam(click.ParamType):  # type: ignore[type-arg]
    """A machine of the lab, then one of its objects."""

    name = "object"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.explanation.selection import machines, object_names

        try:
            session = ctx.find_root().obj or Session(())
            found = _find(session, ctx.params.get("subject") or "", (), ())
            if found is None:
                return []
            lab, before = found
        except LabError:
            return []
        words = (*before, *(ctx.params.get("words") or ()))
        names = object_names(lab, words[0]) if words else machines(lab)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command("explain", short_help="Say why each object of a lab is there, or what a term means.")
@click.argument("subject", type=ExplainedParam(), metavar="SCENARIO|LAB|NODE|TERM")
@click.argument("words", nargs=-1, type=ExplainedObjectParam(), metavar="[OBJECT]...")
@click.option("--term", "only_term", is_flag=True, help="Take the words as a term of the glossary, not as a name.")
@sets_option
@manifests_option
@global_options("lab", "json", "verbose", verbose="Explain each object in full, also if there are many.")
@click.pass_obj
def explain(
    session: Session,
    subject: str,
    words: tuple[str, ...],
    only_term: bool,
    sets: tuple[str, ...],
    manifests: tuple[str, ...],
) -> int:
    """Explain the objects of a scenario, or of a running lab: why each is there, what makes it on a real machine,
    what breaks without it, and the command that makes it; needs no root.

    OBJECT is a machine, or a machine and an object there: its name (a device, an address, a sysctl, a chain), or a
    part of its line in `labctl plan`. Without OBJECT there is an overview. What breaks is from the catalogue of
    faults; `labctl break` makes it, so that you can see it.

    Else the words are a term of the glossary, or an object of the running lab on any machine. A name of a lab, a
    scenario or a node comes first; --term takes the words as a term in any case.

    \b
    Examples:
      labctl explain kubenet
      labctl explain kubenet node1
      labctl explain kubenet node1 cbr0
      labctl explain kubenet fabric route 10.244.1.0/24
      labctl explain kubenet MASQUERADE
      labctl explain masquerade
    """
    from labctl.cli.glossary_page import entries
    from labctl.explanation import glossary
    from labctl.translation.language import ORIGINAL, current_language

    terms = entries(ORIGINAL if session.json else current_language())
    entry = glossary.find(terms, " ".join((subject, *words)))
    found = None if only_term else _find(session, subject, sets, manifests)
    if found is None and entry is None and not (only_term or sets or manifests):
        found = _find_object(session, (subject, *words))
    if found is not None:
        lab, before = found
        print_warnings(session, lab)
        code = _explain_objects(session, lab, (*before, *words))
        if entry is not None and not session.json:
            text = f"`{' '.join((subject, *words))}` is also a term: labctl explain --term {subject}"
            session.terminal.print_stderr(text)
        return code
    if entry is None:
        what = f"there is nothing named {' '.join((subject, *words))!r} to explain"
        if only_term:
            what = f"the glossary has no term {' '.join((subject, *words))!r}"
        raise UsageError(what, _hint(subject, terms, only_term=only_term))
    _print_entry(session, entry)
    return 0


def _find(
    session: Session, name: str, sets: tuple[str, ...], manifests: tuple[str, ...]
) -> tuple[Lab, tuple[str, ...]] | None:
    """The lab that a name means, and the words of the object that it says already: a running lab, a scenario, or a node
    of the running lab. None if the name is none of these. Raises UsageError, ScenarioError."""
    import labctl
    from labctl.kernel.host import paths
    from labctl.lab import records
    from labctl.lab.cni_attach import with_plugin_results
    from labctl.scenario.catalog import ALIASES, names

    labs = paths.labs()
    if name in labs and not sets and not manifests:
        return with_plugin_results(records.load_compiled_lab(name)), ()
    running = session.lab or paths.default_lab(labs)
    node = name.partition("/")[0]
    is_node = running is not None and (node in labs.get(running, ()) or node in _machines(running))
    is_file = "/" in name and not (is_node and not os.path.exists(name))
    if name in names() or name in ALIASES or is_file or name.endswith((".yaml", ".yml")):
        return labctl.load(name, set=sets, manifests=manifests).compiled, ()
    if session.lab is not None:
        running = records.resolve_lab_name(session.lab)  # it names the labs that run
    if running is not None and is_node:
        if sets or manifests:
            raise UsageError(f"{'--set' if sets else '--manifest'} needs a scenario", f"labctl explain SCENARIO {name}")
        return with_plugin_results(records.load_compiled_lab(running)), (name,)
    return None


def _find_object(session: Session, words: tuple[str, ...]) -> tuple[Lab, tuple[str, ...]] | None:
    """The running lab, if one of its objects has these words: a device that a trace names, an address, a rule. None if
    there is no such object, or if no lab is meant."""
    from labctl.explanation.selection import find_subjects
    from labctl.kernel.host import paths
    from labctl.lab import records
    from labctl.lab.cni_attach import with_plugin_results

    labs = paths.labs()
    name = session.lab or paths.default_lab(labs)
    if name not in labs:
        return None
    lab = with_plugin_results(records.load_compiled_lab(name))
    try:
        find_subjects(lab, words)
    except UsageError:
        return None
    return lab, (words[0],)


def _machines(lab: str) -> tuple[str, ...]:
    from labctl.lab.node_lookup import netns_owners

    return tuple(netns_owners(lab))


def _hint(subject: str, terms: tuple[Entry, ...], *, only_term: bool) -> str:
    from labctl.core.names import did_you_mean, summarize_names
    from labctl.explanation.glossary import terms as names_of
    from labctl.kernel.host import paths
    from labctl.scenario.catalog import ALIASES, names

    labs = paths.labs()
    nodes = labs.get(paths.default_lab(labs) or "", ())
    others = () if only_term else (*labs, *nodes, *names(), *ALIASES)
    hint = did_you_mean(subject.lower(), dict.fromkeys((*others, *names_of(terms))))
    if not hint and only_term:
        return f"the terms are {summarize_names(names_of(terms), 50)}"
    return hint or "`labctl list --scenarios` shows the scenarios, `labctl explain --term x` the terms"


def _explain_objects(session: Session, lab: Lab, words: tuple[str, ...]) -> int:
    from labctl.explanation.explanation import Explainer
    from labctl.explanation.selection import find_subjects
    from labctl.report import explanation as report

    found, explainer = find_subjects(lab, words), Explainer(lab)
    if session.json:
        from labctl.report.json_documents import explain_document

        session.print_document(explain_document(lab, (explainer.explain(one) for one in found)))
    elif not words and not session.verbose:
        report.print_overview(lab, explainer, _follows(lab.model), session.terminal)
    elif len(found) > MOST_IN_FULL and not session.verbose:
        report.print_list([explainer.why(one) for one in found], session.terminal)
    else:
        report.print_explanations((explainer.explain(one) for one in found), session.terminal)
    return 0


def _follows(model: str) -> str:
    from labctl.models import find_model

    return str(find_model(model).FOLLOWS)


def _print_entry(session: Session, entry: Entry) -> None:
    if session.json:
        from labctl.report.json_documents import term_document

        session.print_document(term_document(entry))
        return
    terminal = session.terminal
    terminal.line(terminal.paint(entry.title, "bold"))
    for paragraph in entry.paragraphs:
        terminal.line()
        lines = paragraph.split("\n")
        terminal.lines(lines, fold=None if len(lines) > 1 else 0)
    if entry.see_also:
        terminal.line()
        terminal.lines([f"see also: {', '.join(entry.see_also)}"], fold=4)


COMMAND = explain
