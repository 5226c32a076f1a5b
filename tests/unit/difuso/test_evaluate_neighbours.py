"""`difuso evaluate neighbours`: copies of training images are found wherever they lie in the set, and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.evaluation import neighbours
from difuso.evaluation.errors import EvaluationError
from difuso.evaluation.neighbours import FEATURES, PIXELS, SAME, find_neighbours
from difuso.training.data.batches import shown
from difuso.training.data.images import ImageArray
from tests.colours import Colours

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(seed: int, count: int, size: int = 16) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def save(folder: Path, images: ImageArray) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", 7)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difuso.commands.evaluate_neighbours.EfficientNetLite0", lambda device: Colours())


def run(*arguments: object) -> str:
    """What the command prints; its UserError is raised here as in `main`."""
    result = CliRunner().invoke(cli.app, ["evaluate", "neighbours", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("place", [0, 6, 7, 39])
def test_a_copy_is_found_wherever_it_lies(place: int) -> None:
    """The search sees the whole set: every block of it, and the last one that is not full."""
    training, images = noise(0, 40), noise(1, 24)
    images[3] = training[place]
    found = find_neighbours(images, noise(2, 30), iter(training), Colours())
    assert found.searched == 40
    for name in (PIXELS, FEATURES):
        by = found.by[name]
        assert by.order[0] == 3
        assert by.indices[0, 0] == place
        assert by.distances[0, 0] < SAME < by.held_out_distances.min()
        assert by.below_all >= 1
        assert all(np.array_equal(found.training[i], training[i]) for i in by.indices[:, :5].flatten().tolist())


@pytest.mark.usefixtures("small_blocks")
def test_neighbours_are_those_of_all_pairs() -> None:
    """In grey levels, root mean square, nearest first; scores are relative to the twenty nearest."""
    training, images, held_out = noise(0, 40), noise(1, 24), noise(2, 30)
    by = find_neighbours(images, held_out, training, Colours()).by[PIXELS]
    differences = (np.concatenate([images, held_out])[:, None].astype(float) - training) ** 2
    pairs = np.sqrt(differences.mean(axis=(2, 3, 4)))
    nearest = np.sort(pairs)[:, :20]
    scores = nearest[:, 0] / nearest.mean(axis=1)
    assert (by.order == scores[:24].argsort(kind="stable")).all()
    assert by.scores == pytest.approx(scores[by.order], rel=1e-4)
    assert by.distances == pytest.approx(nearest[by.order], rel=1e-4)
    assert (by.indices == pairs[by.order].argsort(axis=1)[:, :20]).all()
    assert by.held_out_distances == pytest.approx(nearest[24:, 0], rel=1e-4)
    assert by.held_out_scores == pytest.approx(scores[24:], rel=1e-4)


def scenes(seed: int, count: int) -> ImageArray:
    """Images of four surfaces; half are almost plain, as the sea is, and so near to many."""
    rng = np.random.default_rng(seed)
    contrast = np.where(np.arange(count) % 2, 3.0, 40.0)[:, None, None, None]
    surfaces = rng.normal(size=(count, 2, 2, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (128 + contrast * surfaces).clip(0, 255).astype(np.uint8)


def test_the_power_of_the_test_is_that_for_copies_in_the_training_set() -> None:
    """Planted copies are judged as copies of training images are, and plain images do not hide the others."""
    training, held_out = scenes(0, 300), scenes(1, 300)
    noise = np.random.default_rng(2).normal(scale=10, size=training.shape)
    copies = (training + noise).round().clip(0, 255).astype(np.uint8)
    by = find_neighbours(copies, held_out, training, Colours()).by[PIXELS]
    assert 0.4 < by.found < 0.9  # of plain images no copy with so much noise is found
    assert by.found == pytest.approx(by.share_below, abs=0.05)
    near = np.quantile(by.held_out_distances, 0.05)
    assert (by.distances[:, 0] < near).mean() < 0.01 < by.found  # by distances alone the copies of the others hide


@pytest.mark.parametrize(("flip", "number"), [(True, 1), ("dihedral", 3), ("dihedral", 6)])
def test_a_copy_of_an_image_as_training_showed_it_is_found(flip: Any, number: int) -> None:
    training, images = noise(0, 40), noise(1, 24)
    images[5] = np.rot90(training[9][:, ::-1] if number % 2 else training[9], number // 2)
    plain = find_neighbours(images, noise(2, 30), training, Colours()).by[PIXELS]
    found = find_neighbours(images, noise(2, 30), training, Colours(), symmetries=shown(flip)).by[PIXELS]
    assert plain.distances[0, 0] > 50
    assert (found.order[0], found.indices[0, 0]) == (5, 9)
    assert found.distances[0, 0] < SAME
    assert len(set(found.indices[0].tolist())) == 20  # each training image once, in the symmetry that is nearest


def test_without_copies_as_many_are_near_as_chance_says() -> None:
    """Images of the same kind as the held-out ones, in 40 sets: the mean share and its spread are as stated."""
    shares, errors = [], []
    for seed in range(40):
        images, held_out, training = (noise(3 * seed + i, count, size=6) for i, count in enumerate((60, 100, 50)))
        by = find_neighbours(images, held_out, training, Colours()).by[PIXELS]
        shares.append(by.share_below)
        errors.append(by.chance_error)
    error = errors[0]
    assert np.mean(shares) == pytest.approx(0.05, abs=3 * error / np.sqrt(40))
    assert 0.6 * error < np.std(shares) < 1.6 * error


def test_held_out_images_that_were_trained_on_are_refused() -> None:
    training = noise(0, 40)
    with pytest.raises(EvaluationError, match="the held-out images are training images: give others, or reserve some"):
        find_neighbours(noise(1, 24), training[:30], training, Colours())


@pytest.mark.usefixtures("quick")
def test_copies_are_found_and_shown_from_the_command_line(models_dir: Path, tmp_path: Path) -> None:
    training, new = noise(0, 40), noise(1, 60)
    copies = np.concatenate([training[[5, 17]], new[:22]])
    copies[0, 0, 0] ^= 1
    sets = {"made": copies, "train": training, "new": new[22:60]}
    made, train, held_out = (save(tmp_path / name, images) for name, images in sets.items())
    arguments = ("--training", train, "--held-out", held_out, "--images", 24, "--models-dir", models_dir)
    printed = run(made, *arguments, "--out", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "neighbours.json").read_text())
    assert (facts["training_images"], facts["held_out_images"]) == (40, 38)
    for name in ("pixels", "features"):
        assert facts[name]["scores"]["images"]["0"] < 0.1 < facts[name]["threshold"]
        assert facts[name]["share_below"] >= 2 / 24
        assert facts[name]["below_every_held_out"] >= 2
        assert facts[name]["power_for_copies_with_noise_of_10"] > 0.9
    assert "all 40 images of" in printed
    assert "Chance is known from 38 images that were not trained on" in printed
    assert "by chance it would be 5.0% ± 5.7%" in printed
    with Image.open(tmp_path / "out" / "neighbours-pixels.png") as sheet:
        pixels = np.asarray(sheet)
    shown, neighbour = pixels[2:66, 2:66], pixels[2:66, 68:132]  # the first row
    assert np.abs(shown.astype(int) - neighbour).max() <= 1
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 100
    larger = save(tmp_path / "larger", noise(2, 24, size=20))
    with pytest.raises(UserError, match="larger holds images of another size than tiny was trained on"):
        run(larger, *arguments)
    with pytest.raises(UserError, match="train has no test half: say which images were not trained on"):
        run(made, "--training", train, "--models-dir", models_dir)


@pytest.mark.usefixtures("quick")
def test_a_recipe_says_what_was_trained_on_and_what_was_reserved(models_dir: Path, tmp_path: Path) -> None:
    pictures = save(tmp_path / "pictures", noise(0, 60))
    recipe = tmp_path / "mine.toml"
    network = "[network]\nchannels = 16\ngroups = 8\nhead_channels = 16\n"
    data = f'[data]\nsource = "folder"\npath = "{pictures}"\nreserved = 20\nflip = true\n'
    recipe.write_text(f'name = "mine"\nimage_size = 16\n{network}{data}', encoding="utf-8")
    copies = noise(1, 24)
    copies[7] = noise(0, 60)[3][:, ::-1]  # mirrored, as training showed it
    made = save(tmp_path / "made", copies)
    run(made, "--training", recipe, "--images", 24, "--models-dir", models_dir, "--out", tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "neighbours.json").read_text())
    assert (facts["training_images"], facts["held_out_images"]) == (40, 20)
    assert facts["pixels"]["distance_of_the_nearest"]["images"]["0"] < SAME
