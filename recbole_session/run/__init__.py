"""One run: build it, train it, save it, read it back, audit it."""
