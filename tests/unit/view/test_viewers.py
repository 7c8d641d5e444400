"""The viewers of a page: each gets every event once, and none can fill the memory."""

from __future__ import annotations

import asyncio
import json

import pytest

from labctl.view.viewers import MAX_VIEWERS, MAX_WAITING, MAX_WAITING_BYTES, TooManyViewersError, Viewers, encode_event


def test_all_viewers_get_the_same_bytes_in_order() -> None:
    async def run() -> None:
        viewers = Viewers()
        both = [viewers.add(), viewers.add()]
        for number in range(3):
            viewers.publish("drift", [number])
        viewers.close()
        received = []
        for one in both:
            received.append([event async for event in one.events()])
        assert received[0] == received[1] == [encode_event("drift", [number]) for number in range(3)]
        assert received[0][0] is received[1][0]  # one encoding for all

    asyncio.run(run())


def test_a_slow_viewer_is_dropped() -> None:
    async def run() -> None:
        viewers = Viewers()
        slow, quick = viewers.add(), viewers.add()
        stream = quick.events()
        for number in range(MAX_WAITING + 1):
            viewers.publish("capture", number)
            await anext(stream)
        assert (slow.closed, quick.closed, len(viewers)) == (True, False, 1)
        assert [event async for event in slow.events()] == []  # and what waited for it is forgotten
        viewers.publish("capture", "x" * (MAX_WAITING_BYTES + 1))
        assert (quick.closed, len(viewers)) == (True, 0)

    asyncio.run(run())


def test_there_is_a_limit_of_viewers() -> None:
    async def run() -> None:
        viewers = Viewers()
        first = viewers.add()
        for _ in range(MAX_VIEWERS - 1):
            viewers.add()
        with pytest.raises(TooManyViewersError):
            viewers.add()
        viewers.remove(first)
        viewers.add()
        viewers.close()
        with pytest.raises(TooManyViewersError):
            viewers.add()

    asyncio.run(run())


def test_waiting_for_a_viewer_ends_with_the_first_and_begins_again_after_the_last() -> None:
    async def run() -> None:
        viewers = Viewers()
        waiting = asyncio.create_task(viewers.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        viewer = viewers.add()
        await waiting
        viewers.remove(viewer)
        again = asyncio.create_task(viewers.wait())
        await asyncio.sleep(0)
        assert not again.done()
        again.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("text", ["a\nb", "a\r\nevent: end\r\n\r\n", "\u2028"])
def test_a_text_of_several_lines_stays_one_event(text: str) -> None:
    event = encode_event("check", {"why": text}).decode()

    name, data, *rest = event.split("\n")
    assert (name, rest) == ("event: check", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {"why": text}
    assert "\r" not in event
