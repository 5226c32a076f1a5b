"""A model that draws something else than its authors' pipeline says so wherever people look."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from difuso.app.routers.models import ModelView
from difuso.jobs.catalog import Catalog, ModelInfo
from difuso.model import Checkpoint, save_checkpoint
from difuso.model.folders.config import SamplerDefaults
from difuso.model.networks.configs import UNetConfig
from difuso.models_folder import print_summary
from difuso.worker.engine.models import ModelFollower
from difuso.worker.settings import WorkerSettings
from tests.small_models import NETWORK, checkpoint_of

REASON = "DPMSolverSDEScheduler: its noise is that of one Brownian path"


def drawn_by_another(instead_of: str | None = REASON) -> Checkpoint:
    made = checkpoint_of(UNetConfig(**NETWORK), defaults=SamplerDefaults("dpmpp", 3, "trailing", 1.0))
    return replace(made, config=replace(made.config, instead_of=instead_of))


def test_the_model_list_and_so_the_page_name_it() -> None:
    models = [ModelInfo("m", drawn_by_another(each).config, 1, "ab" * 32) for each in (REASON, None)]
    views = [ModelView.of("m", Catalog({"m": (each,)}, {}), [], {}) for each in models]
    assert [view.model_dump(exclude_none=True).get("instead_of") for view in views] == [REASON, None]
    card = Path("app/static/modelcard/view.js").read_text("utf-8")
    assert "cardInsteadOf: model.instead_of" in card


def test_convert_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(Path("models/m"), drawn_by_another())
    assert f"its images are others: dpmpp draws instead of {REASON}" in capsys.readouterr().err
    print_summary(Path("models/m"), drawn_by_another(None))
    assert not capsys.readouterr().err


def test_the_worker_logs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And a folder of difuso that `difuso convert` wrote keeps it."""
    made = drawn_by_another()
    save_checkpoint(tmp_path / "m", made.config, made.network)
    with caplog.at_level(logging.WARNING):
        ModelFollower(WorkerSettings(models_dir=tmp_path, slots=1, device="cpu")).load_first()
    assert f"model m draws by dpmpp instead of {REASON}" in caplog.text
