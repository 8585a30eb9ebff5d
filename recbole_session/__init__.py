"""Session-aware sequential recommendation for RecBole."""

from recbole_session.compat import restore_numpy_names

__version__ = "0.1.0"

restore_numpy_names()
