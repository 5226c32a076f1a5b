"""Facts of published checkpoints by name, from the READMEs of their repositories.

IDDPM: openai/improved-diffusion, with the defaults of its scripts for unstated facts. ADM: openai/guided-diffusion.
Ho et al.: pesser/pytorch_diffusion, `from_pretrained`; SDEdit and ermongroup/ddim, configs/. Song et al.:
yang-song/score_sde_pytorch, configs/. Li & He: LTH14/JiT, README.
"""

from dataclasses import replace

from .facts import ClassifierFacts, Facts, GuidedFacts, HoFacts, JiTFacts
from .sigma_facts import ScoreSDEFacts

_IDDPM_64 = GuidedFacts(
    image_size=64,
    use_new_attention_order=False,
    noise_schedule="cosine",
    diffusion_steps=4000,
    rescale_timesteps=True,
    num_heads=4,
    num_channels=128,
    num_res_blocks=3,
    attention_resolutions="16,8",
    learn_sigma=True,
    class_cond=False,
    use_scale_shift_norm=True,
    resblock_updown=False,
)
_ADM_256 = GuidedFacts(
    image_size=256,
    use_new_attention_order=False,
    noise_schedule="linear",
    diffusion_steps=1000,
    rescale_timesteps=False,
    num_head_channels=64,
    num_channels=256,
    num_res_blocks=2,
    attention_resolutions="32,16,8",
    learn_sigma=True,
    class_cond=True,
    use_scale_shift_norm=True,
    resblock_updown=True,
)
_DDPMPP = ScoreSDEFacts(
    image_size=32,
    sde="vpsde",
    nf=128,
    ch_mult=(1, 2, 2, 2),
    num_res_blocks=4,
    attn_resolutions=(16,),
    continuous=True,
    embedding_type="positional",
    fir=False,
    progressive="none",
    progressive_input="none",
)
_NCSNPP = replace(_DDPMPP, fir=True, progressive_input="residual")
_NCSNPP_VE = replace(_NCSNPP, sde="vesde", embedding_type="fourier")
_NCSNPP_256 = replace(
    _NCSNPP_VE,
    image_size=256,
    ch_mult=(1, 1, 2, 2, 2, 2, 2),
    num_res_blocks=2,
    progressive="output_skip",
    progressive_input="input_skip",
    num_scales=2000,
    dropout=0.0,
)

RELEASED: dict[str, Facts] = {
    "iddpm-cifar10": replace(_IDDPM_64, image_size=32, dropout=0.3),
    "iddpm-imagenet64": _IDDPM_64,
    "iddpm-imagenet64-cond": replace(_IDDPM_64, num_channels=192, class_cond=True, rescale_timesteps=False),
    "iddpm-lsun": replace(
        _IDDPM_64,
        image_size=256,
        noise_schedule="linear",
        diffusion_steps=1000,
        rescale_timesteps=False,
        num_heads=1,
        num_res_blocks=2,
        attention_resolutions="16",
        use_scale_shift_norm=False,
    ),
    "adm-64": replace(
        _ADM_256,
        image_size=64,
        use_new_attention_order=True,
        noise_schedule="cosine",
        num_channels=192,
        num_res_blocks=3,
        dropout=0.1,
    ),
    "adm-128": replace(_ADM_256, image_size=128, num_heads=4, num_head_channels=None),
    "adm-256": _ADM_256,
    "adm-256-uncond": replace(_ADM_256, class_cond=False),
    "adm-512": replace(_ADM_256, image_size=512),
    "adm-lsun": replace(_ADM_256, class_cond=False, dropout=0.1),
    "adm-classifier-64": ClassifierFacts(64, "cosine", 1000),
    "adm-classifier-128": ClassifierFacts(128, "linear", 1000),
    "adm-classifier-256": ClassifierFacts(256, "linear", 1000),
    "adm-classifier-512": ClassifierFacts(512, "linear", 1000),
    "ho-cifar10": HoFacts(32, "fixed_large"),
    "ho-lsun": HoFacts(256, "fixed_small"),
    "ho-celebahq": HoFacts(256, "fixed_small"),
    "ddim-celeba64": HoFacts(64, "fixed_large"),
    "ddpmpp-cifar10": replace(_DDPMPP, continuous=False),
    "ddpmpp-cifar10-continuous": _DDPMPP,
    "ddpmpp-cifar10-deep-continuous": replace(_DDPMPP, num_res_blocks=8),
    "ncsnpp-cifar10-vp": replace(_NCSNPP, continuous=False),
    "ncsnpp-cifar10-vp-continuous": _NCSNPP,
    "ncsnpp-cifar10-vp-deep-continuous": replace(_NCSNPP, num_res_blocks=8),
    "ncsnpp-cifar10-continuous": _NCSNPP_VE,
    "ncsnpp-cifar10-deep-continuous": replace(_NCSNPP_VE, num_res_blocks=8),
    "ncsnpp-bedroom-continuous": replace(_NCSNPP_256, sigma_max=378.0),
    "ncsnpp-church-continuous": replace(_NCSNPP_256, sigma_max=380.0),
    "ncsnpp-celebahq256-continuous": replace(_NCSNPP_256, sigma_max=348.0),
    "ncsnpp-ffhq256-continuous": replace(_NCSNPP_256, sigma_max=348.0),
    "ncsnpp-1024-continuous": replace(
        _NCSNPP_256,
        image_size=1024,
        nf=16,
        ch_mult=(1, 2, 4, 8, 16, 32, 32, 32),
        num_res_blocks=1,
        sigma_max=1348.0,
    ),
    "jit-256": JiTFacts(noise_scale=1.0),
    "jit-512": JiTFacts(noise_scale=2.0),
}
