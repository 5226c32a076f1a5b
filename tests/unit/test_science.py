"""What docs/science.md computes and lists is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from difuso.model import NoiseSchedule, make_plan
from difuso.model.plans.plan import Column
from difuso.model.plans.spacing import visit_levels
from tests.oracle import LINEAR, follow, with_slope_weight

PAGE = (Path(__file__).parents[2] / "docs" / "science.md").read_text(encoding="utf-8")
COSINE = NoiseSchedule.cosine(1000)


def rows(section: str) -> list[list[str]]:
    """The cells of the table below a heading, without head and ruler."""
    body = PAGE.split(f"# {section}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in body.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_oracle() -> None:
    for run, *values in rows("The Gaussian oracle"):
        sampler, spacing = re.findall(r"`(\w+)`", run)[:2]
        eta = float("".join(re.findall(r"η = (\d)", run)) or 0)
        for steps, printed in zip((5, 10, 25, 50), values, strict=True):
            plan = make_plan(LINEAR, sampler=sampler, spacing=spacing, eta=eta, steps=steps, clip="none")
            outcome = follow(plan, s=0.5)
            assert plan.stochastic == ("deviation" in run)
            reached = outcome.std if plan.stochastic else outcome.multiplier
            assert reached == pytest.approx(float(printed), abs=5.1e-5), (run, steps)


def test_the_slope_of_dpmpp_keeps_the_spread() -> None:
    """Where k = 1/2, as elsewhere, images spread too far."""
    plan = make_plan(COSINE, sampler="dpmpp", eta=3.0, steps=25, spacing="trailing", clip="none")
    ours, others = (follow(each, 0.5, COSINE).std / 0.5 - 1 for each in (plan, with_slope_weight(plan, 0.5, COSINE)))
    assert (ours, others) == pytest.approx((0.0, 0.091), abs=5e-4)


def test_the_details() -> None:
    """Of which few calls of `trailing` keep little."""
    for name, *printed in rows("Fine details in few calls"):
        spacing = name.strip("`")
        plans = [make_plan(COSINE, sampler="unipc", spacing=spacing, steps=n, clip="none") for n in (4, 10, 25)]
        assert printed == [f"{follow(plan, 0.1, COSINE).multiplier / 0.1:.2f}" for plan in plans]


def test_the_lists() -> None:
    for spacing, printed, _ in rows("Which levels a run visits"):
        name = re.findall(r"`([\w,]+)`", spacing)[-1]
        assert [round(t, 2) for t in visit_levels(LINEAR, name, 10).timesteps] == [float(t) for t in printed.split(",")]


def test_fixed_large_draws_more_than_the_last_call_expects() -> None:
    """The draw before the call at index 0, in grey levels, and the noise that this call expects."""
    chains = {steps: visit_levels(LINEAR, "linspace", steps).chain for steps in (1000, 500, 100, 50)}
    large = [127.5 * chain.betas[1] ** 0.5 for chain in chains.values()]
    assert large == pytest.approx([1.4, 2.1, 5.8, 10.0], abs=0.05)
    assert 127.5 * LINEAR.sigmas[0] == pytest.approx(1.3, abs=0.05)


def test_the_columns_of_a_plan() -> None:
    named = {name for row in rows("The plan") for name in re.findall(r"`([A-Z0-9_]+)`", row[0])}
    assert named == {column.name for column in Column}
