"""What a request asks for besides its path and body: a name that its operation does not know is refused, as in a body.

Whoever writes `?dry_run=true` where that belongs into the body must not be taken for one who means it in earnest.
"""

from __future__ import annotations

from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.requests import Request

from pipeline.api.problems import FieldError, invalid, pointer


def refuse_unknown(request: Request) -> None:
    """Raise `Refusal` (422) that names the parameters which the operation does not have."""
    known = _known(request.scope["route"])
    choice = f"choose from {', '.join(known)}" if known else "there are none here"
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        words = f"There is no such parameter: {choice}"
        raise invalid([FieldError(pointer((name,)), "unknown", words) for name in unknown])


def _known(route: APIRoute) -> list[str]:
    return [one.alias for one in get_flat_params(route.dependant) if isinstance(one.field_info, Query)]
