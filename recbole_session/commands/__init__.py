"""The sub-commands of ``recbole-session``: flags in, one call out."""
