"""Sampling and scoring models: samplers, prompts, tokens, weights, vocabularies, top-K cache."""
