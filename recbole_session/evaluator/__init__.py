"""Candidate sets, the target's rank in each of them, and RecBole's metrics of those ranks."""
