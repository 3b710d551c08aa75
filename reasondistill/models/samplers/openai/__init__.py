"""Completions from any OpenAI-compatible server: bounded concurrency, retries, rate limits, and
servers as they are.

    from reasondistill.models.samplers.openai.sampler import OpenAISampler

    with OpenAISampler("deepseek-reasoner", base_url="https://api.deepseek.com/v1",
        api_key_env="DEEPSEEK_API_KEY") as sampler: ...

kind.py declares the sampler; sampler.py schedules the requests; asking.py builds their bodies;
connection.py sends them; streams.py and replies.py read replies, refusals.py reads errors;
pacing.py keeps rate limits.
"""

from reasondistill.models.samplers.openai.kind import SAMPLER

__all__ = ["SAMPLER"]
