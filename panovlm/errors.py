"""The one exception for faults a user can cause and cure."""


class PanoVLMError(ValueError):
    """A fault in what the user gave: the message says what was found, expected and what to do.

    The command line prints the message alone and exits with code 2.
    """
