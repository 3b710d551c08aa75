"""How a student learns from a teacher's distributions or representations: one file for each method.

A method's file holds its settings with the defaults of its paper (or those that we tried), its loss
and its source. It registers itself; its name is then a value of `method` in `[[students]]`, and the
name of the table of its settings:

    [[students]]
    method = "gkd"
    [students.gkd]              # may be left out
    on_policy = 0.5
    divergence = "tvd"

To add a method, write a file here; every module of this folder is imported with the package:

    class MineSettings(MethodSettings):
        weight: Weight = 1.0

    @register
    class Mine(Method[MineSettings]):
        name = "mine"
        settings_class = MineSettings

        def loss(self, micro: Micro) -> torch.Tensor: ...

settings.py holds the keys that several methods share (divergence × who writes × share of
cross-entropy), method.py defines a method, texts.py and step.py the parts of a training that it
sees. Settings are read without torch: import it inside functions.
"""

from reasondistill.methods.method import METHODS, Method, read_methods, register
from reasondistill.methods.settings import MethodSettings, RolloutSettings

__all__ = ["METHODS", "Method", "MethodSettings", "RolloutSettings", "register"]

read_methods(__name__, __path__)
