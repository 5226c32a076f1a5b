"""What FastAPI resolves for each request costs no thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from difuso.app.routers import health, jobs, kinds, models, page, usage

ROUTES = [
    route
    for router in (
        *(module.router for module in (health, jobs, kinds, models, page, usage)),
        jobs.linked_router,
        health.metrics_router,
    )
    for route in router.routes
    if isinstance(route, APIRoute)
]


def dependencies(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from dependencies(each)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{min(route.methods)} {route.path}")
def test_no_dependency_is_called_in_a_thread(route: APIRoute) -> None:
    """FastAPI calls plain functions and classes in a thread, which takes as long as all that most of ours do."""
    assert [call for call in dependencies(route.dependant) if not iscoroutinefunction(call)] == []
