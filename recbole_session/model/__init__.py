"""The models of this plug-in: pure torch, no files, no pandas."""

from recbole_session.model.pop import Pop
from recbole_session.model.session_bert4rec import SessionBERT4Rec

__all__ = ["Pop", "SessionBERT4Rec"]
