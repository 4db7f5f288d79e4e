"""Low-rank models and small networks, fitted by gradient descent from many starting points.

Every result is compared with the best known answer. The public names below are imported
when they are first used, so that ``import descents`` is fast and a wrong option on the
command line is reported before torch is loaded.
"""

import lazy_loader

__version__ = "0.2.0"

_attribute, _, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*_names, "__version__"]  # noqa: PLE0604


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name in _names:
        return _attribute(name)
    raise AttributeError(f"module 'descents' has no attribute {name!r}")
