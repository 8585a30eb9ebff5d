"""The models of this plug-in: pure torch, no files, no pandas."""

from recbole_session.model.pop import Pop
from recbole_session.model.session_bert4rec import SessionBERT4Rec
from recbole_session.model.session_sasrec import SessionSASRec

__all__ = ["Pop", "SessionBERT4Rec", "SessionSASRec"]
