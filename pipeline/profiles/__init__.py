"""The products: one file each, a constant made of shared parts.

A further one is a file, a line in `PROFILES`, and a test.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.profiles._catalogue import Catalogue, Component, EventType, Matcher
from pipeline.profiles._examples import Example, examples
from pipeline.profiles._profile import FormField, Precondition, Profile, Refusals
from pipeline.profiles._request import MASK, USER_AGENT, Prepared, masked_headers, without_echo
from pipeline.profiles._retry import RetryRule, retry_after_ms
from pipeline.profiles._scheme import RANDOM_BYTES, Scheme, SecretField, mask
from pipeline.profiles.bugbounty import BUGBOUNTY
from pipeline.profiles.inspectorio import INSPECTORIO
from pipeline.profiles.monithq import MONITHQ
from pipeline.profiles.monitorqa import MONITORQA
from pipeline.profiles.qase import QASE
from pipeline.profiles.standard import STANDARD

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        STANDARD,
        MONITORQA,
        INSPECTORIO,
        QASE,
        MONITHQ,
        BUGBOUNTY,
    )
}

__all__ = [
    "MASK",
    "PROFILES",
    "RANDOM_BYTES",
    "USER_AGENT",
    "Catalogue",
    "Component",
    "EventType",
    "Example",
    "FormField",
    "Matcher",
    "Precondition",
    "Prepared",
    "Profile",
    "Refusals",
    "RetryRule",
    "Scheme",
    "SecretField",
    "examples",
    "mask",
    "masked_headers",
    "retry_after_ms",
    "without_echo",
]
