"""``python -m recbole_session`` is the same program as ``recbole-session``."""

import sys

from recbole_session.cli import main

sys.exit(main())
