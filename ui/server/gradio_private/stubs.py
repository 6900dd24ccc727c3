"""Keep Gradio from writing type stubs while it is imported, which takes half of its import.

It must run before Gradio is imported.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_MODULE = "gradio.component_meta"
_WRITER = "create_or_modify_pyi"


def skip_stubs() -> None:
    """Make classes of components without a `.pyi` beside their code.

    For every class, Gradio parses its module and its stub, though the stubs of its own components
    are installed with it. Those of ours would only mislead type checkers.
    """
    if _MODULE in sys.modules:
        _without_writer(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Find the module whose function writes the stubs."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - its base
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _without_writer(module)


def _without_writer(module: ModuleType) -> None:
    setattr(module, _WRITER, lambda *_: None)
