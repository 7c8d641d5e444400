"""Processes of a plan: how they compare, their JSON, and the tag that identifies them."""

from __future__ import annotations

import json

from labctl.core.diff import diff
from labctl.core.resources import Netns, Process
from labctl.kernel import processes
from labctl.render.plan_json import process_tag, resource_from_json, resource_json
from labctl.render.resources import change_lines

WEB = Process("a", "web", ("serve", "web", "tcp:80"), inside="pause")


def test_a_process_is_alike_whatever_its_id_and_changed_by_another_command() -> None:
    found = Process("a", "web", ("serve", "web", "tcp:80"), inside="pause", pid=4711)
    other = Process("a", "web", ("serve", "web", "tcp:81"), inside="pause", pid=4711)
    plan = (Netns("a"), WEB)

    assert diff(plan, (Netns("a"), found)) == ()
    assert [line for change in diff(plan, (Netns("a"), other)) for line in change_lines(change)] == [
        "changed process web: command was serve web tcp:81, should be serve web tcp:80"
    ]
    assert [change.kind for change in diff((Netns("a"),), (Netns("a"), found))] == ["extra"]


def test_a_process_survives_json() -> None:
    assert resource_from_json(json.loads(json.dumps(resource_json(WEB)))) == WEB


def test_a_mark_tells_which_process_of_which_lab_it_is() -> None:
    mark = process_tag(WEB, "labctl.pods.a")

    assert processes.parse_process_tag(mark) == ("pods", WEB)
    assert processes.parse_process_tag(mark.replace("labctl.pods.a", "other.pods.a")) is None
    for odd in ("", "{", "[]", "null", '{"netns": "labctl.x.y"}', '{"netns": 7}', mark.replace('"name"', '"nam"')):
        assert processes.parse_process_tag(odd) is None
