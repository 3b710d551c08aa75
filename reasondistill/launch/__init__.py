"""Where tasks run: processes of this machine, Slurm, Ray. `launcher.py` says what every launcher
offers and which one a cluster file names.
"""
