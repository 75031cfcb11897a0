"""What of a training is kept so that it can go on to the same result, and where.

A copy in memory, which a training that goes wrong falls back on, and a file, from which one that
was interrupted is taken up again. On a CPU it then ends bit for bit as it would have.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from attnzoo.files import written_whole
from attnzoo.train.aside import put_aside
from attnzoo.train.devices import all_gathered
from attnzoo.train.records import METRICS, TENSORBOARD
from attnzoo.train.session import Progress, Session

__all__ = ["CHECKPOINT", "Keeper", "capture", "restore"]

CHECKPOINT = "checkpoint.pt"
FORMAT = 1


def capture(session: Session) -> dict[str, Any]:
    """A copy on the CPU of all that the rest of a training depends on. All processes call it."""
    model, optimizer = _state_dicts(session)
    progress = dataclasses.asdict(session.progress)
    return tree_map(
        _copied,
        {
            "progress": progress,
            "hits": all_gathered(session.fabric, progress["hits"]),
            "model": model,
            "optimizer": optimizer,
            "ema": None if session.ema is None else session.ema.module.state_dict(),
            "precision": session.fabric.strategy.precision.state_dict(),
            "random": all_gathered(session.fabric, _random_state(session.fabric.device)),
        },
    )


def restore(session: Session, state: dict[str, Any]) -> None:
    """Bring a training to where `capture` was called. All processes call it.

    Raises:
        RuntimeError, ValueError, KeyError: the state is another network's.
    """
    session.unfreeze(state["progress"]["unfrozen"])
    _load(session, state)
    if session.ema is not None:
        session.ema.module.load_state_dict(state["ema"])
    session.fabric.strategy.precision.load_state_dict(state["precision"])
    unfrozen = session.progress.unfrozen
    session.progress = Progress(**tree_map(lambda value: value, state["progress"]))
    session.progress.unfrozen = unfrozen
    if len(state["random"]) == session.fabric.world_size:
        rank = session.fabric.global_rank
        session.progress.hits = state["hits"][rank]
        _set_random_state(state["random"][rank], session.fabric.device)


class Keeper:
    """Keeps a training's last good state in memory, and in a file where a path is given.

    Args:
        session: whose.
        path: of the file, or None.
        identity: what the training is; a file of another one is not taken up.
    """

    def __init__(self, session: Session, path: Path | None, identity: str) -> None:
        self.session = session
        self.path = path
        self.identity = identity
        self.state: dict[str, Any] | None = None

    def take_up(self) -> str:
        """Go on from the file, if there is one; what there is to say about it."""
        session, fabric = self.session, self.session.fabric
        state, fault = None, ""
        if self.path is not None and fabric.is_global_zero:
            state, fault = self._read(self.path)
        state, fault = fabric.broadcast((state, fault)) if fabric.world_size > 1 else (state, fault)
        if state is None and self.path is not None and fabric.is_global_zero:
            former = (self.path.with_name(name) for name in (self.path.name, METRICS, TENSORBOARD))
            fault = " ".join(filter(None, (fault, *map(_aside, former))))
        if state is not None:
            restore(session, state)
            progress = session.progress
            where = f"epoch {progress.epoch + 1}, step {progress.step} of {session.steps}"
            fault = f"taken up again at {where}."
        self.keep_in_memory()
        return fault

    def keep_in_memory(self) -> None:
        """Copy the state, and nothing else."""
        self.state = capture(self.session)

    def keep(self) -> None:
        """Copy the state and write it: whole, or not at all."""
        self.keep_in_memory()
        if self.path is not None and self.session.fabric.is_global_zero:
            with written_whole(self.path) as partial, partial.open("wb") as file:
                torch.save(
                    {"format": FORMAT, "identity": self.identity, **(self.state or {})}, file
                )

    def fall_back(self) -> None:
        """Bring the training to the state that was kept last."""
        assert self.state is not None, "take_up comes first"
        state = self.state
        if self.session.sharded:  # the first process alone has it
            state = {**state, **self.session.fabric.broadcast({k: state[k] for k in SHARDED})}
        restore(self.session, state)

    def _read(self, path: Path) -> tuple[dict[str, Any] | None, str]:
        if not path.exists():
            return None, ""
        again = f"{path} is not taken up, and the training starts anew:"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["format"] != FORMAT or state["identity"] != self.identity:
                return None, f"{again} it is of another run."
            if not self._fits(state):
                return None, f"{again} it is of another network."
        except Exception as e:  # what is in a file of anybody's may raise anything
            return (
                None,
                f"{again} it is damaged ({type(e).__name__}: {str(e).partition(chr(10))[0]}).",
            )
        return state, ""

    def _fits(self, state: dict[str, Any]) -> bool:
        """Whether the network is the same; before anything of it is changed."""
        own = self.session.target.state_dict()
        return {k: tuple(v.shape) for k, v in own.items()} == {
            k: tuple(v.shape) for k, v in state["model"].items()
        }


def _aside(path: Path) -> str:
    """Rename what is in the way of a training that starts anew; what there is to say."""
    if not path.exists():
        return ""
    return f"{path.name} of before is kept as {put_aside(path).name}."


SHARDED = ("model", "optimizer")


def _state_dicts(session: Session) -> tuple[dict[str, Any], dict[str, Any]]:
    model, optimizer = session.model, session.optimizer
    if not session.sharded:
        return model.state_dict(), optimizer.state_dict()
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        get_optimizer_state_dict,
    )

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    if not optimizer.state:  # torch would take a step to have one, and AdamW would count it
        return weights, {}
    return weights, get_optimizer_state_dict(model, optimizer, options=options)


def _load(session: Session, state: dict[str, Any]) -> None:
    model, optimizer = session.model, session.optimizer
    if not session.sharded:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        set_model_state_dict,
        set_optimizer_state_dict,
    )

    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, state["model"], options=options)
    optimizer.state.clear()
    if state["optimizer"]:
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)


def _copied(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def _random_state(device: torch.device) -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    state = {"torch": torch.get_rng_state(), "python": random.getstate()}
    state["numpy"] = [name, np.asarray(keys).tolist(), *rest]
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
