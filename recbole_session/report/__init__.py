"""Finished runs in, statistics, tables and pages out."""
