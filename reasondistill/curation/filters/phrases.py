"""`[examples.filters.phrases]`: refusals, and a model that speaks of itself."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated

from pydantic import Field

from reasondistill.curation.filters.registry import Candidate, example_filter
from reasondistill.grading.extract.found import holds_any
from reasondistill.sections import Section

_MODELS = (
    r"(?:Chat\s?GPT|GPT-?\d|Qwen|QwQ|Tongyi|DeepSeek|Claude|Gemini|Gemma|Bard|LLaMA|Llama|Mistral|"
    r"Mixtral|Kimi|Grok|ChatGLM|GLM|Yi|Baichuan|InternLM|MiniMax|Doubao|Hunyuan|Ernie|Phi|Copilot|"
    r"Nemotron)"
)
_MAKERS = (
    r"(?:OpenAI|Alibaba(?:\sCloud)?|Anthropic|Google(?:\sDeepMind)?|DeepMind|Meta(?:\sAI)?|"
    r"Microsoft|Mistral(?:\sAI)?|DeepSeek(?:-AI)?|xAI|Moonshot(?:\sAI)?|Zhipu(?:\sAI)?|NVIDIA|"
    r"ByteDance|Tencent|Baidu)"
)
_KIND = (
    r"(?:(?:large\s+)?language\s+model|AI(?:\s+(?:language\s+)?(?:model|assistant|system))?|"
    r"artificial\s+intelligence|chatbot|LLM)"
)
# Words that begin with a capital are names: `I am yi` is none, and `a claude` neither.
_IDENTITY = re.compile(
    rf"\b[Aa]s\s+an?\s+{_KIND}\b(?!\s+(?:would|might|could|engineer|company|student|researcher))"
    rf"|\bI(?:\s+am|['’]m)\s+(?:just\s+|only\s+)?an?\s+{_KIND}\b"
    rf"|\b(?:I(?:\s+am|['’]m)|[Mm]y\s+name\s+is)\s+{_MODELS}\b\s*"
    rf"(?=[,.;(—–-]\s*(?:an?|the|your|trained|developed|created|made|built)\b|$)"
    rf"|\bI\s+(?:was|am|have\s+been)\s+(?:trained|developed|created|made|built)\s+by\s+{_MAKERS}\b"
    rf"|\ban?\s+(?:AI\s+|large\s+|language\s+)*(?:model|assistant)\s+"
    rf"(?:trained|developed|created|made|built)\s+by\s+{_MAKERS}\b"
    r"|作为一个?(?:人工智能|AI|语言模型)|我是(?:通义千问|ChatGPT|DeepSeek|Qwen|文心一言)",
    re.MULTILINE,
)
_REFUSAL = re.compile(
    r"\bI(?:\s+am|['’]m)\s+(?:very\s+|really\s+|so\s+)?sorry,?\s+(?:but\s+)?"
    r"(?:as\s+[^.\n]{1,40},\s*)?"
    r"I\s*(?:can(?:not|['’]t)|am\s+(?:unable|not\s+able)\s+to|['’]m\s+(?:unable|not\s+able)\s+to|"
    r"won['’]t)\s+(?:help|assist|answer\s+(?:this|that|your)|provide|comply|fulfil|do\s+that|"
    r"discuss|continue|process)"
    r"|\bI\s*(?:can(?:not|['’]t)|am\s+unable\s+to|['’]m\s+unable\s+to|won['’]t)\s+"
    r"(?:help|assist)(?:\s+you)?\s+with\s+(?:that|this|your)\b"
    r"|\bI\s*(?:can(?:not|['’]t)|am\s+unable\s+to|['’]m\s+unable\s+to)\s+"
    r"(?:comply|fulfil\w*|engage)\s+with?\s*(?:that|this|your|the)?\s*request\b"
    r"|\b(?:violates?|against)\s+(?:my|our|OpenAI['’]s)\s+(?:guidelines|programming|safety)"
    r"|\b(?:violates?|against)\s+(?:my|our|OpenAI['’]s|the)\s+(?:content|usage|safety)\s+polic"
    r"|(?:抱歉|对不起)[，,]?\s*我(?:无法|不能)(?:回答|提供|协助|帮助)",
    re.IGNORECASE,
)


# One of these stands in each of the above: a look at the text spares most the search.
_OF_IDENTITY = (
    *(
        "AI",
        "anguage",
        "rtificial",
        "hatbot",
        "LLM",
        "人工智能",
        "语言模型",
        "文心一言",
        "通义千问",
    ),
    *("GPT", "Qwen", "QwQ", "Tongyi", "DeepSeek", "Claude", "Gemini", "Gemma", "Bard", "LLaMA"),
    *("Llama", "Mistral", "Mixtral", "Kimi", "Grok", "GLM", "Yi", "Baichuan", "InternLM"),
    *("MiniMax", "Doubao", "Hunyuan", "Ernie", "Phi", "Copilot", "Nemotron", "Alibaba"),
    *("Anthropic", "Google", "DeepMind", "Meta", "Microsoft", "Moonshot", "Zhipu", "NVIDIA"),
    *("ByteDance", "Tencent", "Baidu"),
)
_OF_REFUSAL = ("sorry", "help", "assist", "request", "violate", "against", "抱歉", "对不起")


class Phrases(Section):
    """`more` are further texts for which a trace is dropped, as they stand, whatever their case:
    `more = ["our nation"]`.
    """

    identity: bool = True
    """Whether a trace goes in which a model speaks of itself."""
    refusal: bool = True
    """Whether a trace goes in which a model refuses."""
    more: tuple[Annotated[str, Field(min_length=2, max_length=1_000)], ...] = ()
    """Further texts for which a trace goes, as they stand, whatever their case.

    Example: ["our nation"]
    """


@example_filter(Phrases)
def phrases(candidate: Candidate, settings: Phrases) -> str | None:
    """What a model says of itself ("As an AI language model", "I am Qwen, created by …"), refusals
    ("I can't help with that"), and texts of one's own.

    After the lists of Nemotron 3 Nano's data (identity, and narratives such as "our nation", which
    `more` is for: a word problem may be of one). Only a model that speaks of itself counts:
    `Claude has 3 apples` and `this cannot be determined` are answers.
    """
    text = candidate.written
    if settings.identity and holds_any(text, _OF_IDENTITY) and _IDENTITY.search(text):
        return "speaks of itself"
    if settings.refusal and holds_any(text.lower(), _OF_REFUSAL) and _REFUSAL.search(text):
        return "refuses"
    if settings.more and _any_of(settings.more).search(text):
        return "unwanted phrase"
    return None


@lru_cache(maxsize=32)
def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)), re.IGNORECASE)
