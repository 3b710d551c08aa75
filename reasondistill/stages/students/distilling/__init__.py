"""Distillation beyond text: students that learn from a teacher's distributions or representations,
on stable TRL.

lessons.py says what a method is, divergences.py, minillm.py and classic.py hold them; trainer.py
trains; teacher.py and rollouts.py are what it asks; texts.py is what passes between them. Imports
torch, transformers and trl; imported late.
"""
