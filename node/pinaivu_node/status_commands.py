"""`pinaivu node status`: what the node does and how it stands, from the file that it keeps."""

import argparse
import sys
import time
from typing import Final

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pinaivu_node.clock import now_ms
from pinaivu_node.node_folder import NodeFolder
from pinaivu_node.status import FILE, NodeStatus
from pinaivu_node.status_view import span, status_view
from pinaivu_shared.errors import CallerError, UnreadableError

RUNNING, NOT_RUNNING = 0, 1
WATCH_SECONDS: Final = 1
WIDTH_ELSEWHERE: Final = 160
"""Where there is no terminal to ask for its width."""


def show_status(chosen: argparse.Namespace) -> int:
    """Print the status; 0 while the node runs, 1 when it does not, UnreadableError where none ever did."""
    folder = NodeFolder(chosen.data_dir)
    if chosen.watch:
        return _watch(folder, as_json=chosen.json)
    return _print_status(_status(folder), as_json=chosen.json)


def _print_status(status: NodeStatus, *, as_json: bool) -> int:
    at_ms = now_ms()
    trouble = _not_running(status, at_ms)
    if as_json:
        print(_json_line(status, trouble))
    else:
        _console().print(status_view(status, now_ms=at_ms))
    if trouble:
        print(trouble, file=sys.stderr)
    return NOT_RUNNING if trouble else RUNNING


def _watch(folder: NodeFolder, *, as_json: bool) -> int:
    """Until Ctrl-C: a table that stays where it is, or with --json a line for each new status."""
    if not as_json and not sys.stdout.isatty():
        raise CallerError("--watch draws on a terminal; for a program there is --watch --json")
    try:
        if as_json:
            _follow(folder)
        else:
            _draw(folder)
    except KeyboardInterrupt:
        pass
    return RUNNING


def _draw(folder: NodeFolder) -> None:
    with Live(console=_console(), auto_refresh=False) as live:
        while True:
            status, at_ms = _status(folder), now_ms()
            live.update(Group(status_view(status, now_ms=at_ms), Text(_not_running(status, at_ms))), refresh=True)
            time.sleep(WATCH_SECONDS)


def _follow(folder: NodeFolder) -> None:
    last = ""
    while True:
        status = _status(folder)
        line = _json_line(status, _not_running(status, now_ms()))
        if line != last:
            print(line, flush=True)
        last = line
        time.sleep(WATCH_SECONDS)


def _json_line(status: NodeStatus, trouble: str) -> str:
    return msgspec.json.encode({"running": not trouble, **msgspec.to_builtins(status)}).decode()


def _status(folder: NodeFolder) -> NodeStatus:
    status = folder.status()
    if status is None:
        raise UnreadableError(f"{folder.path / FILE}: no node has run on this folder; is it the right --data-dir?")
    return status


def _not_running(status: NodeStatus, at_ms: int) -> str:
    """What to say where no node runs; empty where one does."""
    ago = span(at_ms - status.written_ms)
    if status.state == "stopped":
        return f"not running: the node was stopped {ago} ago; start it with `pinaivu node run`"
    if status.is_stale(at_ms):
        return f"not running, or stuck: nothing was written for {ago}, and it writes every few seconds"
    return ""


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)
