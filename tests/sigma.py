"""The fixtures of EDM, EDM2 and score_sde: small networks of each kind, and their runs."""

from __future__ import annotations

from typing import Any

IMAGE = 16  # height and width
SEEDS = (7, 8)
SIGMAS = (0.05, 3.0)  # at which single calls are compared
STEPS = 6  # of Heun's method
SONG: dict[str, Any] = {"model_type": "SongUNet", "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1}
SONG |= {"attn_resolutions": [8], "dropout": 0.1}
NCSNPP: dict[str, Any] = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
NCSNPP |= {"resample_filter": [1, 3, 3, 1]}
ADM: dict[str, Any] = {"model_type": "DhariwalUNet", "model_channels": 128, "channel_mult": [1, 1], "num_blocks": 1}
ADM |= {"attn_resolutions": [8]}
# Class of the preconditioning, its labels, and the other arguments.
EDM: dict[str, tuple[str, int, dict[str, Any]]] = {
    "edm_ddpmpp": ("EDMPrecond", 0, {**SONG, "augment_dim": 9, "sigma_data": 0.4}),
    "edm_ddpmpp_classes": ("EDMPrecond", 3, {**SONG, "label_dropout": 0.1}),
    "edm_ncsnpp": ("VEPrecond", 0, {**SONG, **NCSNPP}),
    "edm_skip": (
        "VEPrecond",
        0,
        {**SONG, **NCSNPP, "encoder_type": "skip", "decoder_type": "skip", "channel_mult": [1, 2, 2]},
    ),
    "edm_vp": ("VPPrecond", 0, SONG),
    "edm_adm": ("EDMPrecond", 3, {**ADM, "dropout": 0.1}),
    "edm_iddpm": ("iDDPMPrecond", 0, {**ADM, "M": 40}),
}
EDM2: dict[str, tuple[str, int, dict[str, Any]]] = {
    "edm2": ("Precond", 3, {"model_channels": 64, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}),
    "edm2_unconditional": (
        "Precond",
        0,
        {
            "model_channels": 32,
            "channel_mult": [1, 2],
            "num_blocks": 2,
            "attn_resolutions": [],
            "channel_mult_noise": 2,
            "channel_mult_emb": 3,
            "channels_per_head": 16,
            "dropout": 0.1,
        },
    ),
}
_COMMON: dict[str, Any] = {"image_size": IMAGE, "nf": 16, "ch_mult": (1, 2), "num_res_blocks": 1}
_COMMON |= {"attn_resolutions": (8,)}
_DDPMPP = {"embedding_type": "positional", "fir": False, "progressive": "none", "progressive_input": "none"}
_NCSNPP = {"embedding_type": "fourier", "fir": True, "progressive": "none", "progressive_input": "residual"}
SCALES = 40
TIMES = (0.01, 0.7)  # at which single calls are compared
SCORE_SDE: dict[str, dict[str, Any]] = {
    "score_sde_ddpmpp": {**_COMMON, **_DDPMPP, "sde": "vpsde", "continuous": True},
    "score_sde_discrete": {**_COMMON, **_DDPMPP, "sde": "vpsde", "continuous": False, "num_scales": SCALES},
    "score_sde_ncsnpp": {**_COMMON, **_NCSNPP, "sde": "vesde", "continuous": True},
    "score_sde_skip": {
        **_COMMON,
        **_NCSNPP,
        "ch_mult": (1, 2, 2),
        "progressive": "output_skip",
        "progressive_input": "input_skip",
        "sde": "vesde",
        "continuous": True,
        "sigma_max": 20.0,
    },
}
