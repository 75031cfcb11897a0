"""attnzoo: attention for any CNN, in one line, without breaking what the network knows."""

import lazy_loader

__version__ = "0.1.0"

# Importing attnzoo loads nothing, not even torch; a name is loaded when it is first used. What
# there is stands in __init__.pyi, where type checkers look, too.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
