"""Session-aware sequential recommendation for RecBole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbole_session.compat import hide_warnings, restore_numpy_names

if TYPE_CHECKING:
    from recbole_session.inference.recommender import load as load

__version__ = "0.1.0"
__all__ = ["load"]

restore_numpy_names()
hide_warnings()


def __getattr__(name: str) -> Any:
    """Import `load` when it is asked for: it needs torch, and the converters do not (PEP 562)."""
    if name == "load":
        from recbole_session.inference.recommender import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
