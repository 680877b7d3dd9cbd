"""Dishonest programs at work: what they print is a queue of events; a test that fails says how to run them again."""

import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .place import Place

Event = dict[str, Any]


class Dishonest:
    """A running cheat or lie."""

    def __init__(self, process: "subprocess.Popen[str]", command: list[str]) -> None:
        self._process, self.command = process, command
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self.seen: list[Event] = []
        self.node_id = ""
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, event: str, request_id: str = "") -> Event:
        """The next event of this kind, about this job if one is named."""
        while True:
            found = self._events.get()
            assert found is not None, f"it ended before it said {event}; its log is above"
            self.seen.append(found)
            self.node_id = found.get("node_id", "")
            if found["event"] == event and request_id in {"", found.get("request_id")}:
                return found

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)


def command_of(*arguments: str) -> list[str]:
    """`pinaivu simulator <arguments>`, as it can be run in this directory."""
    return [os.path.relpath(sys.executable), "-m", "pinaivu_shared.command", "simulator", *arguments]


@contextmanager
def dishonest(*arguments: str) -> Iterator[Dishonest]:
    """`pinaivu simulator <arguments>`, ended by SIGTERM, after which it must exit with 0."""
    command = command_of(*arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Dishonest(process, command)
        except BaseException as error:
            error.add_note("again: " + shlex.join(command))
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait()
    assert status == 0


@contextmanager
def cheating(
    place: Place, folder: Path, cheat: str, *, prices: tuple[int, int] = (2000, 6000), seed: int = 1, victim: str = ""
) -> Iterator[Dishonest]:
    """A node that cheats, cheaper than any honest one, so that it wins."""
    with dishonest(
        *("cheating-node", "--cheat", cheat, "--seed", str(seed), "--gateway", place.base_url.removesuffix("/v1")),
        *("--trust", str(place.trust), "--data-dir", str(folder / cheat), "--log-level", "error"),
        *("--input-price", str(prices[0]), "--output-price", str(prices[1]), "--victim", victim),
    ) as cheat_:
        yield cheat_


@contextmanager
def lying(sockets: Path, lie: str, *, seed: int = 1) -> Iterator[Dishonest]:
    """A lying link between `link` and `enclave` in `sockets`."""
    with dishonest(
        *("lying-link", "--lie", lie, "--seed", str(seed), "--log-level", "error"),
        *("--listen", f"unix:{sockets / 'link'}", "--enclave", f"unix:{sockets / 'enclave'}"),
    ) as link:
        link.wait_for("listening")
        yield link
