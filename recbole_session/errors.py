"""The one exception that means "you, the reader of this message, can mend it"."""


class InputError(ValueError):
    """A mistake in a key, a file or a command, told in one sentence.

    The sentence names the key or the file and line, what was found, what is allowed and what to do.
    The command line prints it without a traceback and leaves with exit code 2.
    """
