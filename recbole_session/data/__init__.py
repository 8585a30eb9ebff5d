"""Interactions in exact order of time, and the batches cut from them; torch, no files but atomic ones."""
