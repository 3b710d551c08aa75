"""How a student learns from a teacher's distributions or representations: one file for each method.

A method's file holds its settings with the defaults of its paper (or what we tried), its loss, and
where it comes from. It registers itself, and from then on its name stands for `method` in
`[[students]]` and for the table of its settings:

    [[students]]
    method = "gkd"
    [students.gkd]              # may be left out
    on_policy = 0.5
    divergence = "tvd"

To add one, write a file here; every module of this folder is read when the package is imported:

    class MineSettings(MethodSettings):
        weight: Weight = 1.0

    @register
    class Mine(Method[MineSettings]):
        name = "mine"
        settings_class = MineSettings

        def loss(self, micro: Micro) -> torch.Tensor: ...

settings.py holds the keys that several methods share (divergence × who writes × share of
cross-entropy), method.py says what a method is, texts.py and step.py what it sees of a training.
Settings are read without torch: import it inside functions.
"""

from reasondistill.methods.method import METHODS, Method, read_methods, register
from reasondistill.methods.settings import MethodSettings, RolloutSettings

__all__ = ["METHODS", "Method", "MethodSettings", "RolloutSettings", "register"]

read_methods(__name__, __path__)
