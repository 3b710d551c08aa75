"""Losses of distillation, once for all students: pure PyTorch, no trainer and no file.

`fused.token_losses` is the one to train with: cross-entropy, a divergence from a teacher and PPO's
policy term on the same positions, straight from hidden states and heads, so that no (tokens,
vocabulary) tensor ever exists. `divergences` holds the divergences, each one function, and their
dense reference. `classic` holds the losses between hidden states, attention maps and pooled
vectors. `divergences` is read without torch; the others are imported late, inside functions.
"""
