"""Builds that share a cache wait for each other, also for what a killed build left running."""

import fcntl
import subprocess
import threading
from pathlib import Path

import pytest
from tests.image.packages import Listener

from pinaivu_image.exclusion import alone


def is_free(path: Path) -> bool:
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_one_waits_for_the_other_and_says_for_what(tmp_path: Path) -> None:
    path, order = tmp_path / "new folder" / "lock", []
    waiting = threading.Event()

    class Waiting(Listener):
        def say(self, text: str) -> None:
            super().say(text)
            waiting.set()

    def second() -> None:
        with alone(path, listener):
            order.append("second")

    listener, thread = Waiting(), threading.Thread(target=second)
    with alone(path, Listener()):
        thread.start()
        assert waiting.wait(60)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert listener.said == [f"waiting for another build, which has {path}"]


def test_nobody_waits_for_a_build_that_failed(tmp_path: Path) -> None:
    listener = Listener()
    with pytest.raises(KeyboardInterrupt), alone(tmp_path / "lock", listener):
        raise KeyboardInterrupt
    with alone(tmp_path / "lock", listener):
        assert not is_free(tmp_path / "lock")
    assert listener.said == []


def test_a_child_keeps_others_out_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with alone(path, Listener()) as held:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(held,))
    assert not is_free(path)
    child.communicate()
    assert is_free(path)
