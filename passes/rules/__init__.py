"""Tables of canonicalization rules, by what they are about. Each rule is exact: no bit of any result changes."""

from .arithmetic import ARITHMETIC
from .control import CONTROL
from .dims import DIMS
from .shape import SHAPE

__all__ = ["ARITHMETIC", "CONTROL", "DIMS", "SHAPE"]
