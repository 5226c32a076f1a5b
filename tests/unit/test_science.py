"""What docs/science.md computes, lists and points to is so."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from model import NoiseSchedule, make_plan
from model.plans.plan import Column
from model.plans.spacing import visit_levels
from tests.oracle import LINEAR, follow, with_slope_weight

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "science.md").read_text(encoding="utf-8")


def rows(section: str) -> list[list[str]]:
    """The cells of the tables below a heading, heads and rulers included."""
    body = PAGE.split(f"# {section}\n", 1)[1].split("\n#", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line[:1] == "|"]


ORACLE = [
    (
        *re.findall(r"`(\w+)`", run)[:2],
        "deviation" in run,
        "".join(re.findall(r"η = (\d)", run)) or "0",
        int(steps.split()[0]),
        float(value),
    )
    for heads, *lines in [[row for row in rows("The Gaussian oracle") if row[1][0] != "-"]]
    for run, *values in lines
    for steps, value in zip(heads[1:], values, strict=True)
]
LISTS = [
    (*re.findall(r"`([\w,]+)`", spacing)[-1:], listed) for spacing, listed, _ in rows("Which levels a run visits")[2:9]
]


@pytest.mark.parametrize(("sampler", "spacing", "drawn", "eta", "steps", "printed"), ORACLE)
def test_the_oracle(sampler: str, spacing: str, drawn: bool, eta: str, steps: int, printed: float) -> None:
    plan = make_plan(LINEAR, sampler=sampler, spacing=spacing, eta=float(eta), steps=steps, clip="none")
    outcome = follow(plan, s=0.5)
    assert plan.stochastic == drawn
    assert (outcome.std if drawn else outcome.multiplier) == pytest.approx(printed, abs=5.1e-5)


def test_the_spreads() -> None:
    """Of dpmpp with eta, as its slope is weighted here and (k = 1/2) elsewhere."""
    cosine = NoiseSchedule.cosine(1000)
    heads, _, *lines = rows("How far noise spreads the images")
    assert len(lines) == 5
    runs = list(itertools.product(map(float, re.findall(r"s = ([\d.]+)", str(heads))), (25, 50)))
    for run, *printed in lines:
        (eta,) = re.findall(r"η = (\d)", run)
        computed = []
        for s, steps in runs:
            plan = make_plan(cosine, sampler="dpmpp", eta=float(eta), steps=steps, spacing="trailing", clip="none")
            plan = with_slope_weight(plan, 0.5, cosine) if "k = 1/2" in run else plan
            computed.append(100 * (follow(plan, s, cosine).std / s - 1))
        assert printed == [f"{more:+.1f} %".replace("-", "\N{MINUS SIGN}") for more in computed]


def test_the_details() -> None:
    """Of which few calls of `trailing` keep little."""
    cosine, s = NoiseSchedule.cosine(1000), 0.1
    heads, _, *lines = rows("Fine details in few calls")
    assert [name for name, *_ in lines] == ["`trailing`", "`exponential`"]
    for name, *printed in lines:
        spacing = name.strip("`")
        runs = [int(calls.split()[0]) for calls in heads[1:]]
        plans = [make_plan(cosine, sampler="unipc", spacing=spacing, steps=steps, clip="none") for steps in runs]
        assert printed == [f"{follow(plan, s, cosine).multiplier / s:.2f}" for plan in plans]


@pytest.mark.parametrize(("spacing", "printed"), LISTS)
def test_the_lists(spacing: str, printed: str) -> None:
    assert [round(t, 2) for t in visit_levels(LINEAR, spacing, 10).timesteps] == [float(t) for t in printed.split(",")]


def test_the_tables_were_found() -> None:
    assert (len(ORACLE), len(LISTS)) == (15 * 6, 7)


def test_fixed_large_draws_more_than_the_last_call_expects() -> None:
    """The draw before the call at index 0, in grey levels, and the noise that this call is told of."""
    chains = {steps: visit_levels(LINEAR, "linspace", steps).chain for steps in (1000, 500, 100, 50)}
    large = [127.5 * chain.betas[1] ** 0.5 for chain in chains.values()]
    assert large == pytest.approx([1.4, 2.1, 5.8, 10.0], abs=0.05)
    assert 127.5 * chains[100].posterior_variance[1] ** 0.5 == pytest.approx(1.2, abs=0.05)
    assert 127.5 * LINEAR.sigmas[0] == pytest.approx(1.3, abs=0.05)


def test_the_columns_of_a_plan() -> None:
    named = {name for row in rows("The plan")[2:] for name in re.findall(r"`([A-Z0-9_]+)`", row[0])}
    assert named == {column.name for column in Column}


def test_what_the_page_points_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
