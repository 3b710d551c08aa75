"""The words of servers' errors and endings: error codes, phrases of messages, finish reasons.

Every kind of server has its own words. Codes are in lower case; phrases are patterns that may be
anywhere in a message, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reasondistill.records import Finish


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.I)


# ---- refusals ------------------------------------------------------------------------------------

QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_user_quota",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "arrearage",
        "quota_exhausted",
    }
)
QUOTA_WORDS = _any_of(
    "insufficient (?:quota|balance|credits?|funds)",
    "exceeded your current quota",
    "credit balance",
    "billing",
    "out of credits",
    "not enough credits",
    "payment required",
    "quota exhausted",
    "account .{0,40}in good standing",
)
# Limits of a minute speak of plans and billing too; they pass.
RATE_WORDS = _any_of(
    "rate.?limit",
    "per.?(?:second|minute)",
    "retry in",
    "try again in",
    "too many requests",
    r"\b[rt]pm\b",
)
FILTER_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "invalid_prompt",
        "moderation_blocked",
        "content_filter_error",
        "sensitive_words_detected",
        "prohibited_content",
        "safety",
    }
)
FILTER_WORDS = _any_of(
    "content (?:management|usage)? ?polic",
    "content.?filter",
    "usage polic",
    "flagged",
    "moderation",
    "safety system",
    "inappropriate content",
    "content exists risk",
    "sensitive (?:content|words?)",
    "prohibited content",
    "prompt was blocked",
)
NO_TEMPLATE_WORDS = _any_of(
    "must provide a chat template",
    "no chat template",
    "does not have a chat template",
    "chat_template is not set",
)
TEMPLATE_WORDS = _any_of(
    "chat.?template",
    "roles? must alternate",
    "jinja",
    r"template(?:\w*)? error",
    "system role (?:is )?not supported",
    "must start with a user",
    "unexpected message role",
    "only user(?:,| and) assistant",
)
LONG_CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "string_above_max_length",
        "request_too_large",
        "prompt_too_long",
    }
)
LONG_WORDS = _any_of(
    "context (?:length|size|window)",
    "maximum (?:model|prompt|input|token) length",
    "prompt is too long",
    "input is too long",
    "too many (?:input )?tokens",
    r"`?inputs`? tokens \+",
    "`?inputs`? must have less",
    "prompt too long",
    "request too large",
    "reduce the length",
    "maximum number of tokens",
    "payload too large",
    "string too long",
    "maximum allowed length",
    r"max_(?:completion_|new_)?tokens\W.{0,20}too large",
    "maximum allowed number of output tokens",
    "range of max_tokens",
    r"max_tokens\W+must be less than",
    "range of input length",
)
# The limit of tokens goes by another name there.
OTHER_FIELD_WORDS = _any_of(
    r"max_completion_tokens\W{0,3} instead",
    r"use \W?max_completion_tokens",
)
SETTING_CODES = frozenset(
    {
        "unknown_parameter",
        "unsupported_parameter",
        "unsupported_value",
        "invalid_parameter",
        "extra_forbidden",
    }
)
SETTING_WORDS = _any_of(
    "unknown",
    "unrecogni[sz]ed",
    "unsupported",
    "not (?:currently )?support",
    "not (?:be )?permitted",
    "not allowed",
    "unexpected",
    "extra (?:inputs|fields)",
    "additional propert",
    "invalid",
    "must be",
    "should be",
    "cannot be",
    "not a valid",
    "deprecated",
)
NO_MODEL_CODES = frozenset(
    {
        "model_not_found",
        "invalid_model",
        "model_not_supported",
    }
)


# ---- why a text ended ----------------------------------------------------------------------------

_STOP_REASONS = (
    "stop",
    "end_turn",
    "stop_sequence",
    "stop_token",
    "eos",
    "eos_token",
    "eos_found",
    "complete",
    "completed",
    "finished",
    "end",
    "",
)
_LENGTH_REASONS = (
    "length",
    "max_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "max_completion_tokens",
    "model_length",
    "max_length",
    "model_context_window_exceeded",
    "context_length",
    "token_limit",
    "incomplete",
)
FINISHES: Mapping[str, Finish] = {
    **dict.fromkeys(_STOP_REASONS, "stop"),
    **dict.fromkeys(_LENGTH_REASONS, "length"),
    "repetition": "repetition",
}
# What the server keeps from us because of what the text is about.
FILTERED_REASONS = frozenset(
    {
        "content_filter",
        "content_filtered",
        "safety",
        "recitation",
        "refusal",
        "sensitive",
        "blocklist",
        "prohibited_content",
        "spii",
        "error_toxic",
        "guardrail_intervened",
    }
)
TOOL_REASONS = frozenset(
    {
        "tool_calls",
        "tool_call",
        "tool_use",
        "function_call",
    }
)
