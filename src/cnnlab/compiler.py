"""What stands in the place of torch's compiler until somebody compiles: it takes a second to import.

Lightning imports it to know the class of what it makes, and each step of torch's optimizers to tell it that they are
not to be compiled.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, MutableSequence, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import torch

NAME = "torch._dynamo"


def stand_in() -> None:
    """Put the stand-in in its place, unless the compiler is loaded already."""
    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = Compiler(NAME)
        sys.meta_path.insert(0, Parts())


class Compiled(type):
    """The class of a class whose instances are what torch's compiler has made."""

    def __instancecheck__(cls, instance: object) -> bool:
        compiler = sys.modules.get(f"{NAME}.eval_frame")
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class Compiler(ModuleType):
    """Knows what a step asks that is not compiled; asked for more, it gives way to torch's compiler."""

    __path__: MutableSequence[str] = []  # its parts are found by `Parts`

    class OptimizedModule(metaclass=Compiled):
        """What `torch.compile` returns."""

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Nothing: there is no graph."""

    @staticmethod
    def disable(fn: Callable, recursive: bool = True, **options: object) -> Callable:
        """Return the function as it is: nobody compiles."""
        return fn

    def __getattr__(self, name: str) -> object:
        return getattr(self.give_way(), name)

    def give_way(self) -> ModuleType:
        """Load and return torch's compiler, which has its own place from now on."""
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Parts)]
        return importlib.import_module(NAME)


class Parts(MetaPathFinder):
    """Finds the compiler's own modules while the stand-in is in its place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        standing = sys.modules.get(NAME)
        if not fullname.startswith(f"{NAME}.") or not isinstance(standing, Compiler):
            return None
        compiler = standing.give_way()
        if fullname in sys.modules:  # the compiler has imported it itself
            return ModuleSpec(fullname, Loaded(sys.modules[fullname]))
        return PathFinder.find_spec(fullname, compiler.__path__)


class Loaded(Loader):
    """Loads a module that is there already."""

    def __init__(self, module: ModuleType):
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec
