"""Which of transformers' attention implementations a model uses. Imports torch and transformers
inside functions.

    AutoModelForCausalLM.from_pretrained(path, **attention_options(config, None, "student small"))
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from reasondistill.errors import ConfigError

log = logging.getLogger(__name__)

# All of them compute the same, but for what a model puts between scores and softmax.
EXACT = "eager"
# It has no soft-cap: it leaves it out without a warning.
WITHOUT_SOFT_CAP = "sdpa"


def attention_options(
    config: Any, wanted: str | None, where: str, *, trust_remote_code: bool = False
) -> dict[str, Any]:
    """The attention options for `from_pretrained` and `from_config`; empty where transformers' own
    choice is right.

    A model whose scores are soft-capped (Gemma 2) is computed by `eager` unless another is
    `wanted`: transformers would choose sdpa, which leaves the cap out, while vLLM applies it.
    `where` is whose model it is, for messages. Raises ConfigError for an attention that is not
    installed, that the model does not have, or that would leave its soft-cap out.
    """
    soft_cap = soft_cap_of(config)
    if wanted is None:
        if soft_cap is None:
            return {}
        _say_once(where, soft_cap)
        return {"attn_implementation": EXACT}
    fault = f"{where} attn_implementation = {wanted!r}"
    if wanted == WITHOUT_SOFT_CAP and soft_cap is not None:
        raise ConfigError(
            f"{fault}: leaves out the soft-cap of this model's attention "
            f"(attn_logit_softcapping = {soft_cap:g}), which is served with it. Take 'eager' or "
            "'flash_attention_2', or leave the key out."
        )
    if wanted.startswith("flash") and not is_installed(wanted):
        raise ConfigError(
            f"{fault}: is not installed for this machine. Install flash-attn where there is a "
            "CUDA device, take 'sdpa' or 'eager', or leave the key out."
        )
    _check_model_has_it(config, wanted, fault, trust_remote_code)
    return {"attn_implementation": wanted}


def soft_cap_of(config: Any) -> float | None:
    """At what a model caps its attention scores: cap·tanh(score / cap); None where it does not."""
    return getattr(config.get_text_config(), "attn_logit_softcapping", None)


def is_installed(attention: str) -> bool:
    """Whether a flash attention can be used on this machine."""
    from transformers import utils

    checks = {
        "flash_attention_2": utils.is_flash_attn_2_available,
        "flash_attention_3": utils.is_flash_attn_3_available,
    }
    return checks[attention]()


def _check_model_has_it(config: Any, wanted: str, fault: str, trust_remote_code: bool) -> None:
    """Let transformers refuse, on a model without weights, before any are read."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        try:
            AutoModelForCausalLM.from_config(
                config, attn_implementation=wanted, trust_remote_code=trust_remote_code
            )
        except (ImportError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            reason = str(error).partition(". ")[0]
            raise ConfigError(
                f"{fault}: this model cannot be computed so ({reason}). Take another, or leave "
                "the key out."
            ) from error


@functools.cache
def _say_once(where: str, soft_cap: float) -> None:
    log.info(
        "%s: attention is computed by 'eager', which applies the model's soft-cap of %g; sdpa "
        "would leave it out",
        where,
        soft_cap,
    )
