"""The flow as a test sees it: events go in at Kafka, requests come out at receivers, the rest is on open topics."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Producer

from pipeline.flow.event import Event
from pipeline.flow.health import EndpointState
from pipeline.flow.subscription import Auth, Subscription, Tenant
from pipeline.http.receiver import Expectation, Received, Receiver, Script
from pipeline.kafka import topics
from pipeline.kafka.codec import Codec
from pipeline.profiles import PROFILES, RANDOM_BYTES
from pipeline.settings import Settings
from pipeline.store.secrets import Secrets, Vault, seal_auth
from tests.e2e import stages
from tests.e2e.following import Decoded, Following

LADDER = "retry-5s=150ms retry-60s=50ms"
"""Two short tiers: a longer wait becomes eight times the longer."""
WITHIN_S = 30.0
FOLLOWED = (topics.DELIVERIES, "retry-5s", topics.ATTEMPTS, topics.DEAD_LETTERS)
KINDS: Mapping[str, dict[str, Any]] = {
    "qase": {"plan": "business"},
    "bugbounty": {"programs": 1},
}
"""What a product wants of its tenants."""
CHOSEN: Mapping[str, tuple[str, dict[str, str]]] = {
    "qase": ("qase_secret", {"secret": "a text of their own"}),
    "inspectorio": ("basic", {"username": "qrm", "password": "pässword"}),
}
"""Where the customer chooses the secret; elsewhere it is generated."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook, its tenant, and the path of the receiver that it points to."""

    tenant: Tenant
    subscription: Subscription
    path: str
    receiver: Receiver


@dataclass(frozen=True, slots=True)
class Flow:
    """The running stages, with receivers over HTTP and HTTPS. Control records are written as the API writes them."""

    settings: Settings
    plain: Receiver
    tls: Receiver
    deliveries: Following
    waiting: Following
    attempts: Following
    dead: Following
    _codec: Codec
    _producer: Producer
    _loop: asyncio.AbstractEventLoop
    _heard: dict[str, Callable[[], None]] = field(default_factory=dict)
    stages: dict[str, stages.Stage] = field(default_factory=dict)

    def add_tenant(self, profile: str = "standard", ident: str = "") -> Tenant:
        """A tenant of that product, with a fresh id unless one is given."""
        ident, now = ident or f"{profile}-{secrets.token_hex(6)}", _now_ms()
        key = self._vault.new_tenant_key(ident)
        own: dict[str, Any] = KINDS.get(profile, {})
        tenant = Tenant(ident, "A tenant", profile, data_key=key, created_ms=now, updated_ms=now, **own)
        self._write(topics.TENANTS, tenant.id, self._codec.encode_tenant(tenant))
        return tenant

    def add_webhook(
        self, tenant: Tenant, url: str, auth: str = "none", held: Mapping[str, str] | None = None
    ) -> Subscription:
        """A webhook of the tenant for every event, its secrets sealed."""
        webhook, now = f"wh_{secrets.token_hex(11)}", _now_ms()
        vault = self._vault.tenant_vault(tenant)
        sealed = seal_auth(vault, tenant.id, webhook, Secrets(held), 1) if held else None
        made = Subscription(tenant.id, webhook, url, ("*",), Auth(auth, sealed), created_ms=now, updated_ms=now)
        self.write_webhook(made)
        return made

    def write_webhook(self, webhook: Subscription) -> None:
        """The webhook as it is from now on."""
        self._write(topics.SUBSCRIPTIONS, webhook.path, self._codec.encode_subscription(webhook))

    def remove(self, hook: Hook) -> None:
        """Neither the webhook nor its tenant is there from now on."""
        self._write(topics.SUBSCRIPTIONS, hook.subscription.path, None)
        self._write(topics.TENANTS, hook.tenant.id, None)

    def write_state(self, state: EndpointState) -> None:
        """What is known of an endpoint, as a sender writes it."""
        self._write(topics.ENDPOINT_STATE, state.path, self._codec.encode_endpoint_state(state))

    def hook(self, profile: str = "standard", answers: Script | None = None, tenant: Tenant | None = None) -> Hook:
        """A webhook to a path of its own, where the product's rule is checked; of a new tenant if none is given."""
        tenant = tenant or self.add_tenant(profile)
        product = PROFILES[tenant.profile]
        receiver, path = (self.tls if product.https_only else self.plain), f"/{secrets.token_hex(8)}"
        first = product.schemes[0]
        auth, held = CHOSEN.get(product.name) or (first.name, first.generate(secrets.token_bytes(RANDOM_BYTES)))
        receiver.expect(path, Expectation(product, auth, held, answers or Script()))
        return Hook(tenant, self.add_webhook(tenant, receiver.url(path), auth, held), path, receiver)

    def send(self, event: Event) -> None:
        """An event on Kafka, by the product's own encoder."""
        self._write(topics.EVENTS, event.tenant, self._codec.encode_event(event))

    def heard(self, hook: Hook, call: Callable[[], None]) -> None:
        """Call this when the next request has come to the hook, before it is answered."""
        self._heard[hook.path] = call

    def accepted(self, hook: Hook, count: int = 1) -> list[Received]:
        """The accepted requests, once there are so many distinct deliveries; every request must have been believed."""
        self.until(hook, lambda: len(hook.receiver.accepted(hook.path)) >= count)
        assert hook.receiver.refused(hook.path) == {}
        return [
            got for got in hook.receiver.requests(hook.path) if got.status in PROFILES[hook.tenant.profile].acknowledged
        ]

    def until(self, hook: Hook, condition: Callable[[], bool]) -> None:
        """Wait until requests make the condition true."""

        async def wait() -> None:
            try:
                await asyncio.wait_for(hook.receiver.until(condition), WITHIN_S)
            except TimeoutError:
                got = hook.receiver.requests(hook.path)
                raise AssertionError(f"after {WITHIN_S} s: {got}; {hook.receiver.refused(hook.path)}") from None

        self._in_loop(wait())

    def attempts_of(self, hook: Hook, count: int = 1) -> list[Decoded]:
        """The attempts of the hook's deliveries, once there are so many."""
        return self.attempts.until(lambda attempt: attempt["tenant"] == hook.tenant.id, count)

    def dead_letter_at(self, partition: int, offset: int) -> Decoded:
        """The dead letter of that record of `events`."""
        place = ("events", partition, offset)
        (letter,) = self.dead.until(lambda one: (one["topic"], one["partition"], one["offset"]) == place)
        return letter

    def dead_letter_of(self, hook: Hook) -> Decoded:
        """The one dead letter of the hook's deliveries."""
        (letter,) = self.dead.until(lambda one: bool(one["delivery"]) and one["delivery"]["tenant"] == hook.tenant.id)
        return letter

    @property
    def codec(self) -> Codec:
        """Encodes as the stages do."""
        return self._codec

    @property
    def _vault(self) -> Vault:
        return Vault(self.settings.keys())

    def _write(self, topic: str, key: str, value: bytes | None) -> None:
        faults: list[object] = []
        self._producer.produce(topic, value, key, on_delivery=lambda error, _: faults.append(error))
        assert self._producer.flush(WITHIN_S) == 0
        assert faults == [None]

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[Flow]:
    """Topics and schemas by the operator's commands, receivers, then router, sender and delay as processes."""
    variables = _variables(settings)
    stages.call(["topics", "create", "--partitions", "4"], variables, folder)
    stages.call(["schemas", "register"], variables, folder)
    with running_loop() as loop, _parts(settings, loop) as flow:
        trusting = {**variables, "PIPELINE_EGRESS_CA": str(flow.tls.ca_file)}
        with stages.running(("router", "sender", "delay"), trusting, folder) as started:
            yield replace(flow, stages=started)


def _variables(settings: Settings) -> dict[str, str]:
    return {
        "PIPELINE_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PIPELINE_SCHEMA_REGISTRY": settings.schema_registry,
        "PIPELINE_ENCRYPTION_KEYS": settings.encryption_keys,
        "PIPELINE_DATA_DIR": str(settings.data_dir),
        "PIPELINE_LADDER": settings.ladder,
        "PIPELINE_EGRESS_ALLOW": settings.egress_allow,
        "PIPELINE_INSTANCE_ID": settings.instance_id,
    }


@contextmanager
def _parts(settings: Settings, loop: asyncio.AbstractEventLoop) -> Iterator[Flow]:
    heard: dict[str, Callable[[], None]] = {}

    def on_request(path: str, *_told: object) -> None:
        heard.pop(path, lambda: None)()

    kafka, registry = settings.bootstrap_servers, settings.schema_registry
    with ExitStack() as stack:
        plain = stack.enter_context(receiving(Receiver({}, on_request=on_request), loop))
        tls = stack.enter_context(receiving(Receiver({}, tls=True, on_request=on_request), loop))
        codec = asyncio.run_coroutine_threadsafe(Codec.open(settings), loop).result()
        stack.callback(codec.client.close)
        first, second, third, last = (stack.enter_context(closing(Following(kafka, registry, one))) for one in FOLLOWED)
        producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True})
        stack.callback(producer.close)
        yield Flow(settings, plain, tls, first, second, third, last, codec, producer, loop, heard)


@contextmanager
def receiving(receiver: Receiver, loop: asyncio.AbstractEventLoop) -> Iterator[Receiver]:
    """The receiver, listening on that loop."""
    asyncio.run_coroutine_threadsafe(receiver.__aenter__(), loop).result()
    try:
        yield receiver
    finally:
        asyncio.run_coroutine_threadsafe(receiver.__aexit__(None, None, None), loop).result()


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="receivers", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
