"""How long it takes until something happens: whole processes, beside `python -c "import torch"`.

Help, wrong arguments and completion need no torch; `import attnzoo` loads what is asked of it.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from timing import in_turns, ratio, summary

ROUNDS = 15
COMMAND = str(Path(sys.executable).with_name("attnzoo"))
TORCH = "import torch"

PROCESSES = {
    TORCH: [sys.executable, "-c", TORCH],
    "import attnzoo": [sys.executable, "-c", "import attnzoo"],
    "attnzoo.wrap": [sys.executable, "-c", "import attnzoo; attnzoo.wrap"],
    "attnzoo --help": [COMMAND, "--help"],
    "attnzoo train --help": [COMMAND, "train", "--help"],
    "attnzoo plam (misspelt)": [COMMAND, "plam"],
}


def main() -> None:
    run = partial(subprocess.run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = in_turns({name: partial(run, argv) for name, argv in PROCESSES.items()}, ROUNDS)
    for name, taken in seconds.items():
        beside = ""
        if name != TORCH:
            middle, low, high = ratio(taken, seconds[TORCH])
            beside = f"  / {TORCH}: {middle:.3f} ({low:.3f} to {high:.3f})"
        print(f"{name:26}{summary(taken)}{beside}")


if __name__ == "__main__":
    main()
