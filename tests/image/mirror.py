"""A mirror on this machine, which can misbehave."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pinaivu_image.mirrors import Mirrors


class LocalMirror:
    """Serves `files` by path. `requests` are the paths that were asked for.

    A path in `cut` ends half-way, one in `rude` is answered with something else than HTTP.
    """

    def __init__(self, port: int, files: Mapping[str, bytes]) -> None:
        self.url, self.files = f"http://127.0.0.1:{port}/debian", dict(files)
        self.requests: list[str] = []
        self.cut: set[str] = set()
        self.rude: set[str] = set()
        self.failing: dict[str, int] = {}

    @property
    def mirrors(self) -> Mirrors:
        return {"debian": (self.url,), "debian-security": (self.url,)}


@contextmanager
def local_mirror(files: Mapping[str, bytes]) -> Iterator[LocalMirror]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.removeprefix("/debian/")
            mirror.requests.append(path)
            if path in mirror.rude:
                self.wfile.write(b"who are you?\r\n")
                self.close_connection = True
                return
            status = mirror.failing.get(path, 200 if path in mirror.files else 404)
            content = mirror.files[path] if status == 200 else b"sorry"
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if path in mirror.cut else content)
            self.close_connection = path in mirror.cut

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up, as ours does at the first byte too many, is no error."""

    with Server(("127.0.0.1", 0), Handler) as server:
        mirror = LocalMirror(server.server_address[1], files)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()
