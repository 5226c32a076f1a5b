"""The Inception network of FID (Heusel et al. 2017), and the features that ADM's evaluator takes from it.

The network is torch-fidelity's, which resizes and pools as TensorFlow 1 does, with which published figures were
computed. The weights are Google's of 2015-12-05, converted by the same project. They are downloaded only on request.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from difuso.training.data.images import ImageArray

from .errors import EvaluationError
from .features import Features, Tap, to_tensor

DOWNLOAD = "download"
URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class InceptionV3:
    """D = 2048 (`pool_3`), S = 2023 (7 channels at the 17x17 positions of `mixed_6/conv`), 1008 classes.

    Raises EvaluationError if the weights, see `read_weights`, belong to another network.
    """

    name = "Inception"

    def __init__(self, weights: dict[str, Any], device: torch.device | str = "cpu") -> None:
        from torch_fidelity import FeatureExtractorInceptionV3

        # It unpickles a file without any check, so it gets a file that holds only tensors.
        safe = io.BytesIO()
        torch.save(weights, safe)
        safe.seek(0)
        try:
            self._network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], safe).to(device)
        except RuntimeError as error:
            raise EvaluationError("these are not the weights of torch-fidelity's InceptionV3") from error
        self._spatial = Tap(self._network.Mixed_6d.branch1x1)  # TensorFlow's mixed_6/conv, after its ReLU
        self._device = device

    @torch.inference_mode()
    def __call__(self, images: ImageArray) -> Features:
        pooled, logits = self._network(to_tensor(images).to(self._device))
        return Features(pooled.cpu().numpy(), self._spatial.take().cpu().numpy(), logits.cpu().numpy())


def read_weights(source: str) -> dict[str, Any]:
    """Reads Google's weights of 2015-12-05; a figure from other weights may not be called FID.

    Args:
        source: path of `weights-inception-2015-12-05-6726825d.pth`, or `download`: fetches torch-fidelity's release of
            that file, 96 MB, into the cache of torch.hub, where a later run finds it.

    Raises EvaluationError if there is no such file, or its SHA-256 differs.
    """
    path = _download() if source == DOWNLOAD else Path(source)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}; give the weights of Inception, or {DOWNLOAD}") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise EvaluationError(f"{path} is not {Path(URL).name}: its SHA-256 differs")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _download() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256)
        except (OSError, RuntimeError) as error:
            raise EvaluationError(f"the weights of Inception could not be fetched from {URL}: {error}") from error
    return path
