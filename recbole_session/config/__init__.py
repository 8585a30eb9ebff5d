"""Keys and their values: defaults, precedence, checks."""

from recbole_session.compat import require_recbole

require_recbole()
