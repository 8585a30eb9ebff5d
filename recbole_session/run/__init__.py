"""One run: build it, train it, save it, read it back, audit it."""

from recbole_session.compat import require_recbole

require_recbole()
