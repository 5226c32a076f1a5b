"""Random weights of Inception: the network is the real one, but it has learned nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def untrained_weights() -> dict[str, Any]:
    """Returns a state dict of torch-fidelity's InceptionV3; without that package the test is skipped."""
    module = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity comes with the extra evaluate"
    )

    class Untrained(module.FeatureExtractorInceptionV3):  # type: ignore[misc,name-defined]
        def load_state_dict(self, content: Any, **settings: Any) -> None:
            """Its constructor asks for weights, and gets none."""

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(module.torch, "load", lambda *arguments, **settings: {})
        weights: dict[str, Any] = Untrained("untrained", ["2048"], "no file").state_dict()
    return weights
