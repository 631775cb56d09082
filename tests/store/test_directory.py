from __future__ import annotations

import pytest

from pipeline.errors import Undecodable
from pipeline.kafka.topics import SUBSCRIPTIONS, TENANTS
from pipeline.store.directory import Directory
from pipeline.store.pages import Place
from tests.store.conftest import World


def ids(directory: Directory, limit: int = 2) -> list[list[str]]:
    """All pages of the tenants."""
    pages: list[list[str]] = []
    after: Place | None = None
    while not pages or after is not None:
        page = directory.tenants(after, limit)
        pages.append([tenant.id for tenant in page.items])
        after = page.next
    return pages


def test_lists_are_newest_first_in_pages(world: World) -> None:
    """Tenants come newest first, those of one instant by their ids, and a page says where the next one begins."""
    for made, name in ((1, "a"), (3, "c"), (2, "b"), (3, "d"), (0, "z")):
        world.tenant(name, made=made)
    assert ids(Directory(world.view, world.codec)) == [["c", "d"], ["b", "a"], ["z"]]


def test_a_full_last_page_has_no_next(world: World) -> None:
    """A list whose length is a multiple of the limit ends without an empty page."""
    for made in range(4):
        world.tenant(f"t{made}", made=made)
    assert ids(Directory(world.view, world.codec)) == [["t3", "t2"], ["t1", "t0"]]


def test_the_order_is_kept_up(world: World) -> None:
    """What comes, changes and goes after the first look is in its place."""
    world.tenant("a", made=1)
    directory = Directory(world.view, world.codec)
    assert ids(directory) == [["a"]]
    world.tenant("b", made=2)
    world.tenant("a", made=1)
    assert ids(directory) == [["b", "a"]]
    world.view.put(TENANTS, "a", None)
    world.view.put(TENANTS, "never-there", None)
    assert ids(directory) == [["b"]]
    world.tenant("a", made=3)
    assert ids(directory) == [["a", "b"]]


def test_a_page_goes_on_where_it_stopped_though_the_list_has_changed(world: World) -> None:
    """What is added or removed between two pages neither repeats nor hides what is older."""
    for made in range(5):
        world.tenant(f"t{made}", made=made)
    directory = Directory(world.view, world.codec)
    first = directory.tenants(None, 2)
    world.view.put(TENANTS, first.items[-1].id, None)
    world.tenant("new", made=9)
    assert [tenant.id for tenant in directory.tenants(first.next, 2).items] == ["t2", "t1"]


def test_webhooks_are_listed_by_tenant(world: World) -> None:
    """A tenant's list holds its own webhooks alone, and follows their changes."""
    acme, other = world.tenant("acme"), world.tenant("acme-2")
    for number in range(3):
        world.webhook(acme, f"wh_{number}", created_ms=number)
    world.webhook(other, "wh_9")
    directory = Directory(world.view, world.codec)
    assert [one.webhook for one in directory.webhooks("acme", None, 9).items] == ["wh_2", "wh_1", "wh_0"]
    world.view.put(SUBSCRIPTIONS, "acme/wh_1", None)
    world.webhook(acme, "wh_7", created_ms=7)
    assert [one.webhook for one in directory.webhooks("acme", None, 9).items] == ["wh_7", "wh_2", "wh_0"]
    assert [one.webhook for one in directory.webhooks("acme-2", None, 9).items] == ["wh_9"]


@pytest.mark.parametrize("when", ["before the first look", "after it"])
def test_a_record_that_cannot_be_read_takes_no_other_with_it(world: World, when: str) -> None:
    """Lists leave out what cannot be read and go on; who asks for it by its id is told."""
    acme, _ = world.tenant("acme", made=1), world.tenant("other", made=2)
    world.webhook(acme, "wh_1")
    directory = Directory(world.view, world.codec)
    if when == "after it":
        assert (ids(directory), len(directory.webhooks("acme", None, 9).items)) == ([["other", "acme"]], 1)
    for topic, key in ((TENANTS, "junk"), (TENANTS, "acme"), (SUBSCRIPTIONS, "acme/wh_2"), (SUBSCRIPTIONS, "junk")):
        world.view.put(topic, key, b"junk")
    assert ids(directory) == [["other"]]
    assert [one.webhook for one in directory.webhooks("acme", None, 9).items] == ["wh_1"]
    for look in (lambda: directory.tenant("acme"), lambda: directory.webhook("acme", "wh_2")):
        with pytest.raises(Undecodable):
            look()
    world.tenant("acme", made=3)
    assert ids(directory) == [["acme", "other"]]
