"""Endpoints of many minds, in plain HTTP and TLS, and the egress proxy that leads to them; in threads."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme


@dataclass
class Got:
    """What came, by path: headers (names in lower case) and body; the paths that were answered with 2xx."""

    requests: dict[str, list[tuple[dict[str, str], bytes]]] = field(default_factory=dict)
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    tunnels: list[str] = field(default_factory=list)

    def to(self, path: str) -> list[tuple[dict[str, str], bytes]]:
        """The requests to that path so far."""
        return list(self.requests.get(path, ()))


class _Handler(BaseHTTPRequestHandler):
    """The path's first word decides: ok, flaky (503 once for each delivery), gone, fail, echo."""

    got: Got
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.got.requests.setdefault(self.path, []).append((headers, body))
        self.got.tried[self.path, headers["webhook-id"]] += 1
        kind = self.path.split("/")[1]
        first = self.got.tried[self.path, headers["webhook-id"]] == 1
        status = {"gone": 410, "fail": 500, "flaky": 503 if first else 200}.get(kind, 200)
        said = json.dumps({"headers": dict(self.headers.items())}).encode() if kind == "echo" else b""
        self.send_response(status)
        if kind == "echo":
            self.send_header("X-Echo", self.headers.get("X-Token", "-"))
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away."""


@dataclass(frozen=True)
class Endpoints:
    """Where they are."""

    plain: str
    tls: str
    proxy: int
    got: Got
    ca_file: Path


@contextlib.contextmanager
def endpoints(folder: Path, account: str) -> Iterator[Endpoints]:
    """All of them; the proxy asks for that `user:password`."""
    got, authority = Got(), trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(tls)
    handler = type("Handler", (_Handler,), {"got": got})
    with contextlib.ExitStack() as stack:
        plain, secure = (stack.enter_context(_serving(handler)) for _ in range(2))
        secure.socket = tls.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
        proxy = stack.enter_context(_proxying(got, account))
        ports = plain.server_address[1], secure.server_address[1]
        yield Endpoints(f"http://127.0.0.1:{ports[0]}", f"https://localhost:{ports[1]}", proxy, got, ca_file)


@contextlib.contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _proxying(got: Got, account: str) -> Iterator[int]:
    """A CONNECT proxy; 407 for whoever does not give the account."""
    expected = b"Proxy-Authorization: Basic " + base64.b64encode(account.encode())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, got, expected), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(listener: socket.socket, got: Got, expected: bytes) -> None:
    with contextlib.suppress(OSError):  # it has been shut down
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_tunnel, args=(client, got, expected), daemon=True).start()


def _tunnel(client: socket.socket, got: Got, expected: bytes) -> None:
    with client, contextlib.suppress(OSError):
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += client.recv(65_536)
        if expected.lower() not in asked.lower():
            client.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        target = asked.split(b" ")[1].decode()
        got.tunnels.append(target)
        host, _, port = target.rpartition(":")
        if host != "127.0.0.1":
            client.sendall(b"HTTP/1.1 502 Not from here\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection((host.strip("[]"), int(port))) as far:
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, client), daemon=True)
            back.start()
            _pump(client, far)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
