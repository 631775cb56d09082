from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import Fenced, Unreachable
from pipeline.flow.audit import Audit
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.kafka.changes import Removed
from pipeline.kafka.control import ControlWriter
from pipeline.kafka.table import Table
from pipeline.kafka.topics import AUDIT, CONTROL_TOPICS, SUBSCRIPTIONS, TENANTS
from pipeline.settings import Settings
from tests.live_cluster import LiveCluster, live_cluster
from tests.prepared import codec_of, prepared

BY = Audit("aud_1", 1, "admin", "platform_admin", "createTenant", "acme", "acme")


@pytest.fixture
def settings(cluster: LiveCluster) -> Settings:
    return prepared(cluster)


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[tuple[ControlWriter, Table]]:
    async with (
        codec_of(settings) as codec,
        Table(settings, CONTROL_TOPICS) as table,
        ControlWriter(settings, codec, table) as writer,
    ):
        yield writer, table


def tenant(name: str) -> Tenant:
    return Tenant(name, name, "standard")


def webhook(name: str) -> Subscription:
    return Subscription(name, "wh_1", "https://example.com/", ("*",), Auth("none"))


async def test_a_write_is_in_the_view_when_it_returns(settings: Settings) -> None:
    """Whoever reads after a write has been answered sees it, and after a removal does not."""
    async with writing(settings) as (writer, table):
        for number in range(5):
            await writer.write(BY, tenant(f"seen-{number}"))
            assert table.get(TENANTS, f"seen-{number}") is not None
        await writer.write(BY, webhook("seen-0"))
        assert table.get(SUBSCRIPTIONS, "seen-0/wh_1") is not None
        await writer.write(BY, Removed("seen-0", "wh_1"), Removed("seen-0"))
        assert table.get(SUBSCRIPTIONS, "seen-0/wh_1") is None
        assert table.get(TENANTS, "seen-0") is None


async def test_writes_that_wait_go_together(settings: Settings) -> None:
    """Many writes at once need few transactions: what waits while one is under way goes into the next."""
    async with writing(settings) as (writer, table):
        before = table.offset(TENANTS)
        await asyncio.gather(*(writer.write(BY, tenant(f"many-{number}")) for number in range(300)))
        assert all(table.get(TENANTS, f"many-{number}") is not None for number in range(300))
        markers = table.offset(TENANTS) - before - 300
        assert markers < 30


async def test_check_and_write_of_one_tenant_are_not_interleaved(settings: Settings) -> None:
    """Of many that check and then write the same tenant, one finds it missing."""
    made = []
    async with writing(settings) as (writer, table):

        async def make(number: int) -> None:
            async with writer.hold("once"):
                if table.get(TENANTS, "once") is None:
                    await writer.write(BY, tenant("once"))
                    made.append(number)

        await asyncio.gather(*(make(number) for number in range(20)))
    assert len(made) == 1


async def test_a_newer_writer_fences_the_older_one(settings: Settings) -> None:
    """Only one process writes: the older one is refused, changes nothing, and learns that it must end."""
    async with writing(settings) as (older, _), writing(settings) as (newer, table):
        with pytest.raises(Unreachable, match="taken over"):
            await older.write(BY, tenant("from-older"))
        assert isinstance(older.ended.result(), Fenced)
        with pytest.raises(Unreachable, match="taken over"):
            async with older.hold("x"):
                pass
        await newer.write(BY, tenant("from-newer"))
        assert table.get(TENANTS, "from-newer") is not None
        assert table.get(TENANTS, "from-older") is None


async def test_what_an_older_writer_left_open_is_not_seen(settings: Settings) -> None:
    """A writer that died in the middle of a transaction leaves nothing behind: its successor ends it at once."""
    async with writing(settings) as (older, _):
        older._producer.begin_transaction()
        older._producer.produce(TENANTS, b"torn", b"torn")
        older._producer.flush(10)
        async with writing(settings) as (newer, table):
            await newer.write(BY, tenant("after"))
            assert table.get(TENANTS, "torn") is None
            assert table.get(TENANTS, "after") is not None


async def test_who_did_it_is_written_with_the_change(settings: Settings) -> None:
    """The record of a change is there when the change is, and not when it is not: they are one transaction."""
    lost = replace(BY, id="aud_lost", tenant="unmade", target="unmade")
    made, platform = replace(lost, id="aud_made", tenant="made"), replace(lost, id="aud_platform", tenant=None)
    async with writing(settings) as (older, _), writing(settings) as (newer, _):
        with pytest.raises(Unreachable):
            await older.write(lost, tenant("unmade"))
        await newer.write(made, tenant("made"))
        await newer.write(platform, tenant("made"))
        async with Table(settings, (AUDIT,)) as audits, codec_of(settings) as codec:
            assert audits.get(AUDIT, "unmade") is None
            assert codec.decode_audit(audits.get(AUDIT, "made")) == made
            assert codec.decode_audit(audits.get(AUDIT, "_platform")) == platform


@pytest.mark.faults
async def test_an_outage_leaves_nothing_half_done(tmp_path: Path) -> None:
    """While the broker is away a write fails and says that nothing changed; afterwards that holds, and writes go on."""
    with live_cluster(tmp_path) as cluster:
        settings = prepared(cluster)
        async with writing(settings) as (writer, table):
            await writer.write(BY, tenant("before"))
            await asyncio.to_thread(cluster.kill_broker)
            with pytest.raises(Unreachable, match="nothing has been changed"):
                await writer.write(BY, webhook("during"), tenant("during"))
            with pytest.raises(Unreachable, match="not settled"):
                async with writer.hold("during"):
                    pass
            assert writer.troubles
            await asyncio.to_thread(cluster.start_broker)
            settling = writer._settling
            if settling is not None:
                await asyncio.wait_for(settling, 30)
            async with writer.hold("during"):
                assert table.get(TENANTS, "during") is None
                assert table.get(SUBSCRIPTIONS, "during/wh_1") is None
                await writer.write(BY, tenant("after"))
            assert table.get(TENANTS, "after") is not None
            assert not writer.troubles
