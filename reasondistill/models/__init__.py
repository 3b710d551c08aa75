"""Whatever is sampled or scored: samplers, prompts, tokens, weights, vocabularies, the top-K cache."""
