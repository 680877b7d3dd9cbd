"""A PostgreSQL server of the tests' own, where PostgreSQL is installed: no network, a Unix socket, nothing kept."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

MISSING = "PostgreSQL 15 or newer is not installed (Debian: postgresql), so nothing is tried on it"
VERSION_MIN = 15
ROLE = "pinaivu"
_NOT_DURABLE = ("fsync=off", "full_page_writes=off", "max_connections=50", "listen_addresses=")


class PostgresServer:
    """A running server. Every database is new, and sorts as people do: nothing may rest on the order of bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._admin = psycopg.connect(f"host={folder} user={ROLE} dbname=postgres", autocommit=True)

    @contextmanager
    def database(self, *, options: str = "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'") -> Iterator[str]:
        """The URL of an empty database, which is gone afterwards."""
        name = f"test_{next(self._numbers)}"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}".encode())
        yield f"postgresql+psycopg://{ROLE}@/{name}?host={self._folder}"
        self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    @contextmanager
    def away(self, url: str) -> Iterator[None]:
        """As if the server of this database were gone: its connections are cut, and it takes no new ones."""
        name = url.partition("@/")[2].partition("?")[0]
        self._admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        self._admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            self._admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    def close(self) -> None:
        self._admin.close()


def programs() -> Path | None:
    """The folder of the newest `initdb` and `postgres` that will do, None where there is none."""
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(debian, key=lambda folder: int(folder.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    candidates = [*newest_first, *([Path(on_path).parent] if on_path else [])]
    return next((folder for folder in candidates if _version(folder) >= VERSION_MIN), None)


@contextmanager
def running(binaries: Path) -> Iterator[PostgresServer]:
    """A server until the block ends. It refuses to run as root, who therefore starts it as somebody else."""
    prefix = _as_somebody_else()
    folder = Path(tempfile.mkdtemp(prefix="pinaivu-"))  # a Unix socket's path is short
    try:
        if prefix:
            os.chown(folder, *_somebody_else())
        data = folder / "data"
        initdb = (binaries / "initdb", "--pgdata", data, "--username", ROLE, "--auth", "trust", "--no-sync")
        _run(*prefix, *initdb, "--encoding", "UTF8", "--locale", "C")
        control = (binaries / "pg_ctl", "--pgdata", data, "--wait", "--silent", "--log", folder / "log")
        settings = " ".join(f"-c {one}" for one in (*_NOT_DURABLE, f"unix_socket_directories={folder}"))
        _run(*prefix, *control, "start", "--options", settings)
        try:
            server = PostgresServer(folder)
            yield server
            server.close()
        finally:
            _run(*prefix, *control, "stop", "--mode", "immediate")
    finally:
        shutil.rmtree(folder)


def _version(folder: Path) -> int:
    postgres = folder / "postgres"
    if not postgres.is_file():
        return 0
    said = subprocess.run([postgres, "--version"], check=True, capture_output=True, text=True).stdout
    return int(said.split()[2].split(".")[0])


def _as_somebody_else() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    user, group = _somebody_else()
    return ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups")


def _somebody_else() -> tuple[int, int]:
    """The package's own user, or whoever is nobody."""
    users = {user.pw_name: user for user in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    return user.pw_uid, user.pw_gid


def _run(*command: str | Path) -> None:
    with Path(os.devnull).open("w") as nowhere:  # a server keeps what it inherits
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=nowhere, stderr=subprocess.STDOUT, cwd="/"
        )
    assert done.returncode == 0, f"{command} ended with {done.returncode}"
