"""The same program as ``recbole-session train``, for a clone that is not installed."""

import sys

from recbole_session.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], program="run_recbole_session"))
