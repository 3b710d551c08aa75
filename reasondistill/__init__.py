"""reasondistill: distil a reasoning model into a small one, and say honestly how well it worked."""

__version__ = "0.1.0"
