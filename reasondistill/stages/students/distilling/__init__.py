"""Training on a teacher's distributions or representations, on stable TRL.

reasondistill/methods/ holds what the methods are; trainer.py trains; teacher.py, stored.py and
rollouts.py are what it asks; batches.py makes tensors of texts; teaching.py puts them together.
Imports torch, transformers and trl; imported late.
"""
