"""Session-aware sequential recommendation for RecBole."""

import importlib
from typing import TYPE_CHECKING, Any

from recbole_session.compat import hide_warnings, restore_numpy_names

if TYPE_CHECKING:
    from recbole_session.inference.recommender import load as load
    from recbole_session.run.run import Run as Run
    from recbole_session.run.training import run_session as run_session

__version__ = "0.1.0"
__all__ = ["Run", "load", "run_session"]

_MODULES = {"Run": "run.run", "load": "inference.recommender", "run_session": "run.training"}

restore_numpy_names()
hide_warnings()


def __getattr__(name: str) -> Any:
    """Import these names when they are asked for: they need torch, and the converters do not (PEP 562)."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
