"""reasondistill: distil a reasoning model into a small one, and say honestly by how much it worked."""

__version__ = "0.1.0"
