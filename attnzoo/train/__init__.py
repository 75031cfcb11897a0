"""Training one network: data, recipe, loop, and one run from its description to its folder."""

import lazy_loader

# Each name is loaded when it is first used: the flags of `attnzoo train` need no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
