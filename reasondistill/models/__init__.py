"""Whatever is sampled or scored: samplers, prompts, tokens, weights, vocabularies, top-K cache."""
