"""Optional packages: imported where they are used, named plainly where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from attnzoo.errors import MissingExtraError

__all__ = ["MissingExtraError", "require"]


def require(module: str, package: str, extra: str = "study") -> ModuleType:
    """Import `module`, which the optional `package` brings.

    Raises:
        MissingExtraError: if it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise  # installed, but something that it needs is missing
        raise MissingExtraError(
            f"{package} is needed here and is not installed. "
            f"It comes with an extra: pip install 'attnzoo[{extra}]'"
        ) from None
