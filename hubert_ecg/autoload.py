"""Makes transformers' `AutoConfig` and `AutoModel` know the models, without importing transformers or torch by itself.

    import hubert_ecg, transformers        # in either order
    model = transformers.AutoModel.from_pretrained("runs/demo/classifier")

The configuration classes are registered as soon as transformers' own tables and the module that defines them are
loaded; they in turn register the models when the first of them is made. Nothing of transformers is replaced.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CONFIGS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"
OURS = "hubert_ecg.models.config"


def install() -> None:
    """Register now where transformers' tables are loaded already, otherwise when they are."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _register()


def _register() -> None:
    """Register the configurations if their table is complete, loading their module first where that is safe."""
    if not _complete(CONFIGS):
        return
    if OURS not in sys.modules and (_complete(MODELS) or not _half_loaded()):
        importlib.import_module(OURS)
    if _complete(OURS):
        table, ours = sys.modules[CONFIGS], sys.modules[OURS]
        for config in (ours.HubertECGConfig, ours.HubertECGClassifierConfig):
            table.AutoConfig.register(config.model_type, config, exist_ok=True)


def _complete(name: str) -> bool:
    """Whether a module is loaded, and not just being loaded."""
    return name in sys.modules and not _initializing(sys.modules[name])


def _half_loaded() -> bool:
    """Whether some module of transformers is just being loaded, so that others may not find in it what they need."""
    return any(name.startswith("transformers.") and _initializing(m) for name, m in list(sys.modules.items()))


def _initializing(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


class _Finder(MetaPathFinder):
    """Finds the three modules as Python would, and has their loading followed by the registration."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (CONFIGS, MODELS, OURS):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


class _RegisteringLoader(Loader):
    """A module's own loader, and the registration after it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.__spec__._initializing = False  # type: ignore[union-attr]
        _register()

    def __getattr__(self, name: str) -> object:
        # Tools that look into modules (inspect, pickle by value) ask the loader for sources.
        return getattr(self._loader, name)
