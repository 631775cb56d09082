"""What a person makes of the demo's receivers."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from pipeline.cli._demo_scene import Endpoints, broken_status
from pipeline.http.receiver import Expectation
from pipeline.profiles import PROFILES

HEADERS = {"Content-Type": "application/json", "webhook-id": "msg_1", "webhook-timestamp": "1767225600"}


@pytest.mark.parametrize(("text", "status"), [("500\n", 500), ("410", 410), ("no", None), ("99", None), ("", None)])
def test_a_file_says_what_a_broken_receiver_answers(tmp_path: Path, text: str, status: int | None) -> None:
    """A status, or nothing that counts."""
    file = tmp_path / "monitorqa"
    assert broken_status(file) is None
    file.write_text(text)
    assert broken_status(file) == status


async def test_a_product_is_broken_and_repaired(tmp_path: Path) -> None:
    """As long as its file is there its receiver answers so and others do not; one of an earlier demo is taken away."""
    broken = tmp_path / "broken"
    broken.mkdir()
    file = broken / "monitorqa"
    file.write_text("410")
    async with Endpoints(lambda *_: None, broken) as endpoints, aiohttp.ClientSession(headers=HEADERS) as session:

        async def answers(name: str) -> int:
            profile = PROFILES[name]
            endpoints.expect(f"/{name}", Expectation(profile, "none"))
            async with session.post(endpoints.of(profile).url(f"/{name}"), data=b"{}", ssl=False) as answer:
                return answer.status

        assert await answers("monitorqa") == HTTPStatus.OK
        file.write_text("500")
        assert await answers("monitorqa") == HTTPStatus.INTERNAL_SERVER_ERROR
        assert await answers("inspectorio") == HTTPStatus.OK
        file.unlink()
        assert await answers("monitorqa") == HTTPStatus.OK
