"""Losses of distillation, once for all students: pure PyTorch, no trainer and no file.

`token_losses` is the one to train with: cross-entropy, a divergence from a teacher and PPO's policy
term on the same positions, straight from hidden states and heads, so that no (tokens, vocabulary)
tensor ever exists. `divergence_of_logits` is its dense reference. `classic` holds the losses
between hidden states, attention maps and pooled vectors.

Import it late, inside functions: it needs torch.
"""

from reasondistill.losses.classic import (
    attention_loss,
    hidden_loss,
    pool,
    relation_angle,
    relation_distance,
    uniform_layer_map,
)
from reasondistill.losses.divergences import (
    Divergence,
    Kind,
    divergence_of_logits,
    value_and_gradient,
)
from reasondistill.losses.fused import TokenLosses, token_losses
from reasondistill.losses.heads import Head
from reasondistill.losses.policy import Policy
from reasondistill.losses.teachers import LiveTeacher, TopKTeacher, log_probs_of, top_k

__all__ = [
    "Divergence",
    "Head",
    "Kind",
    "LiveTeacher",
    "Policy",
    "TokenLosses",
    "TopKTeacher",
    "attention_loss",
    "divergence_of_logits",
    "hidden_loss",
    "log_probs_of",
    "pool",
    "relation_angle",
    "relation_distance",
    "token_losses",
    "top_k",
    "uniform_layer_map",
    "value_and_gradient",
]
