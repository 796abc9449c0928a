"""The one exception for errors a user can cause and fix."""


class PanoVLMError(ValueError):
    """An error in what the user gave: the message says what was found, expected and what to do.

    The command line prints the message alone and exits with code 2.
    """
