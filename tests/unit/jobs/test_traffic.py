"""Which version of a model draws which job, by NAME.toml beside the folders."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from difuso.jobs.catalog import Catalog, CatalogFollower, read_catalog
from difuso.jobs.kinds.generate import GenerateQuery, choose
from difuso.jobs.traffic import drawn_by, parts_of, text_of
from difuso.model.checkpoint import load_checkpoint, save_checkpoint

IDS = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))) for number in range(10_000)]
OLD, NEW, THIRD = HERE = "aa" * 32, "bb" * 32, "cc" * 32


def drawn(parts: dict[str, float]) -> list[str]:
    return [drawn_by(each, "tiny", parts) for each in IDS]


@pytest.mark.parametrize("shares", [{NEW: 10, OLD: 90}, {NEW: 1, THIRD: 2.5, OLD: 96.5}, {NEW: 1, THIRD: 1, OLD: 1}])
def test_ten_thousand_jobs_have_the_shares(shares: dict[str, float]) -> None:
    """Each count is one that an exact multinomial draw has but once in a million times."""
    counts = Counter(drawn(parts_of(shares, OLD, HERE)))
    assert counts.total() == len(IDS)
    for version, share in shares.items():
        assert binomtest(counts[version], len(IDS), share / sum(shares.values())).pvalue > 1e-6 / len(shares)


def test_jobs_of_two_models_fall_apart() -> None:
    """Or the candidates of a model and of its upscaler would always draw together."""
    parts = parts_of({NEW: 50, OLD: 50}, OLD, HERE)
    both = sum(drawn_by(each, "tiny", parts) == drawn_by(each, "tiny-up", parts) for each in IDS)
    assert binomtest(both, len(IDS), 0.5).pvalue > 1e-6


@pytest.mark.parametrize(
    ("before", "after"),
    [({NEW: 10, OLD: 90}, {NEW: 20, OLD: 80}), ({THIRD: 30, NEW: 10, OLD: 60}, {THIRD: 30, NEW: 20, OLD: 50})],
)
def test_a_share_that_grows_moves_only_the_jobs_that_it_must(before: dict[str, float], after: dict[str, float]) -> None:
    moved = Counter(zip(*(drawn(parts_of(shares, OLD, HERE)) for shares in (before, after)), strict=True))
    changes = {change: count for change, count in moved.items() if len({*change}) == 2}
    assert changes.keys() == {(OLD, NEW)}
    assert binomtest(changes[OLD, NEW], len(IDS), 0.1).pvalue > 1e-6


@given(
    shares=st.dictionaries(st.sampled_from([OLD, NEW, THIRD, "dd"]), st.floats(0, 1e6), min_size=1),
    held=st.sets(st.sampled_from([OLD, NEW, THIRD])),
)
def test_the_parts_make_one_and_none_is_larger_than_was_said_while_the_current_version_is_held(
    shares: dict[str, float], held: set[str]
) -> None:
    shares[OLD] = shares.get(OLD, 0) + 1
    parts = parts_of(shares, OLD, held)
    assert sum(parts.values()) == pytest.approx(1)
    assert [*parts][-1] == OLD
    for version in (NEW, THIRD):
        part = parts.get(version, 0)
        assert part == 0 or version in held
        if OLD in held:
            assert part <= shares.get(version, 0) / sum(shares.values()) + 1e-9


def test_what_a_version_would_get_that_nobody_can_draw_goes_to_the_others() -> None:
    shares = {NEW: 10, THIRD: 30, OLD: 60}
    assert parts_of(shares, OLD, {OLD, NEW}) == pytest.approx({NEW: 0.1, OLD: 0.9})
    assert parts_of(shares, OLD, {NEW, THIRD}) == pytest.approx({NEW: 0.25, THIRD: 0.75, OLD: 0})
    assert parts_of({"dd": 90, NEW: 10}, OLD, HERE) == pytest.approx({NEW: 0.1, OLD: 0.9}), "a candidate gets no more"
    assert parts_of({"dd": 90}, OLD, HERE) == {OLD: 1}
    assert parts_of({NEW: 10}, OLD, HERE) == {NEW: 1, OLD: 0}
    assert set(drawn({NEW: 1, OLD: 0})) == {NEW}
    assert set(drawn({NEW: 0, OLD: 1})) == {OLD}


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    """A models folder with two versions of `tiny`, of which `tiny@next` is not current."""
    shutil.copytree(models_dir / "tiny", tmp_path / "tiny")
    tiny = load_checkpoint(models_dir / "tiny")
    tiny.network.requires_grad_(False).get_parameter("conv_out.bias").add_(0.5)
    save_checkpoint(tmp_path / "tiny@next", tiny.config, tiny.network)
    return tmp_path


def counts(catalog: Catalog) -> dict[str, int]:
    """How many of a thousand requests without `version` each folder draws."""
    return Counter(catalog.for_job(each).choose("tiny").folder for each in IDS[:1000])


def settled(follower: CatalogFollower) -> Catalog:
    follower.look()
    assert follower.look()
    return follower.catalog


def test_requests_are_shared_as_long_as_the_file_says_so(folder: Path) -> None:
    follower = CatalogFollower(folder)
    before = follower.catalog
    current, other = (each.version for each in before.versions["tiny"])
    assert before.for_job(IDS[0]) is before
    (folder / "tiny.toml").write_text(f'shares = {{ "{other[:8]}" = 25, "{current[:8]}" = 75 }}')
    catalog = settled(follower)
    assert 200 < counts(catalog)["tiny@next"] < 300
    assert catalog.for_job(IDS[0]) == catalog.for_job(IDS[0])
    for version in (current, other):
        assert {catalog.for_job(each).choose("tiny", version=version[:12]).version for each in IDS[:50]} == {version}
    (folder / "tiny.toml").write_text(text_of({other: 100, current: 0}))
    assert counts(settled(follower)) == {"tiny@next": 1000}
    (folder / "tiny.toml").unlink()
    assert settled(follower) == before


def test_the_model_that_a_request_names_to_enlarge_its_images_has_shares_of_its_own(
    cascade_models_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(cascade_models_dir, tmp_path / "models")
    up = load_checkpoint(tmp_path / "models/tiny-up")
    next(iter(up.network.parameters())).requires_grad_(False).mul_(1.5)
    save_checkpoint(tmp_path / "models/tiny-up@next", up.config, up.network)
    current, other = (each.version for each in read_catalog(tmp_path / "models").versions["tiny-up"])
    (tmp_path / "models/tiny-up.toml").write_text(text_of({other: 50, current: 50}))
    catalog = read_catalog(tmp_path / "models")
    tiny, parts = catalog.models["tiny"].version, catalog.parts_of("tiny-up")
    for job_id in IDS[:20]:
        model = choose(GenerateQuery(upscale="tiny-up"), catalog.for_job(job_id))
        assert model.versions == (tiny, drawn_by(job_id, "tiny-up", parts))


def test_a_version_that_no_worker_holds_gets_none(folder: Path) -> None:
    follower = CatalogFollower(folder)
    current, other = follower.catalog.versions["tiny"]
    (folder / "tiny.toml").write_text(text_of({other.version: 50, current.version: 50}))
    settled(follower)
    for held, drawing in (
        ({current.ref}, {"tiny"}),
        ({other.ref}, {"tiny@next"}),
        ({current.ref, other.ref}, {"tiny", "tiny@next"}),
        ({"other@0123456789ab"}, {"tiny", "tiny@next"}),
    ):
        follower.hear(frozenset(held))
        assert counts(follower.catalog).keys() == drawing


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("shares = {", "at end of document"),
        ("", "shares is missing"),
        ("share = 1", "unknown key share"),
        ("shares = 1", "dictionary"),
        ("shares = {}", "sum must be positive"),
        ('shares = { "aa" = 0 }', "sum must be positive"),
        ('shares = { "aa" = -1 }', "greater than or equal to 0"),
        ('shares = { "aa" = nan }', "finite"),
        ('shares = { "aa" = 1e308, "bb" = 1e308 }', "sum must be positive"),
        ('shares = { "aa" = true }', "valid number"),
        ('shares = { "aa" = "10" }', "valid number"),
        ('shares = { "next" = 10 }', "match pattern"),
        ("a = " + "[" * 5000, "shares are wrong"),
        ("#" * (1 << 20) + "\n", "at most"),
    ],
)
def test_a_broken_file_is_told_and_ignored(
    folder: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    (folder / "tiny.toml").write_text(text)
    caplog.set_level(logging.WARNING)
    catalog = read_catalog(folder)
    assert catalog.refused.keys() == {"tiny.toml"}
    assert reason in catalog.refused["tiny.toml"]
    assert "tiny.toml: " in caplog.text
    assert counts(catalog) == {"tiny": 1000}


def test_a_file_that_is_no_text_or_no_file_is_none_of_ours(folder: Path) -> None:
    (folder / "tiny.toml").write_bytes(b"\xff\xfe")
    assert "shares are wrong" in read_catalog(folder).refused["tiny.toml"]
    (folder / "tiny.toml").unlink()
    (folder / "tiny.toml").symlink_to("tiny.toml")
    assert not read_catalog(folder).refused


def test_digits_name_one_version_once(folder: Path) -> None:
    current, other = (each.version for each in read_catalog(folder).versions["tiny"])
    for shares in ({other[:8]: 1, other[:9]: 1}, {"": 1}):
        listed = ", ".join(f'"{each}" = 1' for each in shares)
        (folder / "tiny.toml").write_text(f"shares = {{ {listed} }}")
        assert read_catalog(folder).refused.keys() == {"tiny.toml"}
    (folder / "tiny.toml").write_text(text_of({"0123456789abcdef": 90, other: 10}))
    parts = read_catalog(folder).parts_of("tiny")
    assert parts == pytest.approx({other: 0.1, current: 0.9}), "a version that is not here leaves its share"


def test_a_new_version_does_not_leave_its_requests_to_the_candidate(folder: Path, models_dir: Path) -> None:
    """Nor to the version of before, which the file names and workers still hold."""
    follower = CatalogFollower(folder)
    current, other = (each.version for each in follower.catalog.versions["tiny"])
    (folder / "tiny.toml").write_text(text_of({other: 10, current: 90}))
    tiny = load_checkpoint(models_dir / "tiny")
    tiny.network.requires_grad_(False).get_parameter("conv_out.bias").add_(0.25)
    save_checkpoint(folder / "tiny", tiny.config, tiny.network)
    newest = settled(follower).models["tiny"]
    before, candidate = f"tiny@{current[:12]}", f"tiny@{other[:12]}"
    for held, version in (
        ({before, candidate}, current),
        ({before, candidate, newest.ref}, newest.version),
        ({candidate, newest.ref}, newest.version),
    ):
        follower.hear(frozenset(held))
        assert follower.catalog.parts_of("tiny") == pytest.approx({other: 0.1, version: 0.9})
    (folder / "tiny.toml").write_text(f'shares = {{ "{other}" = 10, "{current}" = 90 }}')
    assert settled(follower).parts_of("tiny") == pytest.approx({other: 0.1, newest.version: 0.9})


def test_a_candidate_that_became_the_current_version_gets_all(folder: Path) -> None:
    follower = CatalogFollower(folder)
    current, other = (each.version for each in follower.catalog.versions["tiny"])
    (folder / "tiny.toml").write_text(text_of({other: 10, current: 90}))
    shutil.rmtree(folder / "tiny")
    shutil.copytree(folder / "tiny@next", folder / "tiny")
    settled(follower)
    follower.hear(frozenset({f"tiny@{each[:12]}" for each in (current, other)}))
    assert follower.catalog.parts_of("tiny") == {other: 1}
