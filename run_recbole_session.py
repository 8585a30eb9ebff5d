"""Train and evaluate one model: python run_recbole_session.py --model=SessionBERT4Rec --dataset=ml-100k."""

import sys

from recbole_session.run.training import main

if __name__ == "__main__":
    sys.exit(main())
