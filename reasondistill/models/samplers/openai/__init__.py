"""Completions from any OpenAI-compatible server: bounded concurrency, retries, rate limits, and
servers as they are.

    from reasondistill.models.samplers.openai.sampler import OpenAISampler

    with OpenAISampler("deepseek-reasoner", base_url="https://api.deepseek.com/v1",
        api_key_env="DEEPSEEK_API_KEY") as sampler: ...

kind.py says what it can do and how it is opened; sampler.py goes through the requests; asking.py
shapes each of them; connection.py sends it; streams.py and replies.py read what came, refusals.py
what was refused; pacing.py says when.
"""

from reasondistill.models.samplers.openai.kind import SAMPLER

__all__ = ["SAMPLER"]
