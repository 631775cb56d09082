"""There is one way out to tenants' URLs, and the guard stands in it: nothing in the product goes around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.egress

PRODUCT = Path(__file__).parents[2] / "pipeline"
LIBRARIES = {
    *("aiohttp", "httpx", "httpx2", "httpx_aiohttp", "requests", "urllib3", "websockets", "curl_cffi"),
    *("urllib.request", "http.client", "ftplib", "smtplib", "telnetlib", "xmlrpc.client", "grpc"),
}
CALLS = {
    *("open_connection", "create_connection", "create_datagram_endpoint", "sock_connect", "connect_ex"),
    *("urlopen", "urlretrieve", "ClientSession", "AsyncClient"),
}
KNOWN_CALLS = {
    ("http/proxy.py", "sock_connect"),  # to the operator's own egress proxy
    ("http/transport.py", "ClientSession"),  # owns the guarded connector; no request is made with it
    ("embedded/addresses.py", "open_connection"),  # whether the embedded broker listens yet, on 127.0.0.1
}
REACHING = {"http/connector.py", "http/names.py", "http/client.py", "http/transport.py", "http/proxy.py"}
"""What delivers; the rest of `http/` answers or speaks to the operator's own API."""
SPEAKS_TO_OUR_API = "http/rest.py"
DELIVERS = {"cli/_wiring.py", "api/serve.py"}
"""Who makes a delivery client: the sender, and the API for tests of a configuration."""


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PRODUCT.rglob("*.py")):
        yield path.relative_to(PRODUCT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _called(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield str(getattr(node.func, "attr", "") or getattr(node.func, "id", ""))


def _is_library(name: str) -> bool:
    return any(name == library or name.startswith(f"{library}.") for library in LIBRARIES)


def test_only_one_folder_speaks_http() -> None:
    """No module outside `http/` has a library at hand that sends requests."""
    speaking = {path for path, tree in _modules() if any(map(_is_library, _imported(tree)))}
    assert {path.partition("/")[0] for path in speaking} == {"http"}


def test_connections_are_made_in_known_places() -> None:
    """Nobody opens a connection by itself but where it leads to the operator's own."""
    assert {(path, call) for path, tree in _modules() for call in _called(tree) if call in CALLS} == KNOWN_CALLS


def test_who_sends_holds_the_guarded_client() -> None:
    """Who sends to a tenant's URL makes the one delivery client; nobody takes its parts apart."""
    parts = {f"pipeline.{path[:-3].replace('/', '.')}" for path in REACHING}
    users = {
        path: {name for name in _imported(tree) if name in parts or name.rpartition(".")[0] in parts}
        for path, tree in _modules()
        if not path.startswith("http/")
    }
    assert {path for path, used in users.items() if used} == DELIVERS
    assert all(users[path] <= {"pipeline.http.client", "pipeline.http.client.DeliveryClient"} for path in DELIVERS)


def test_requests_are_made_by_the_transport_and_to_our_api_alone() -> None:
    """Only the guarded transport and the command line's way to the API use httpx's or aiohttp's clients at all."""
    libraries = {"httpx", "httpx_aiohttp"}
    using = {path for path, tree in _modules() if libraries & {name.partition(".")[0] for name in _imported(tree)}}
    assert using == {"http/client.py", "http/transport.py", SPEAKS_TO_OUR_API}
