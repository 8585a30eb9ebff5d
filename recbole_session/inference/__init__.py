"""From a run folder to recommendations; nothing is imported here, so that a subcommand's help stays fast."""

from recbole_session.compat import require_recbole

require_recbole()
