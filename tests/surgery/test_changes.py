"""Changes are made in one step, and until then nothing is touched."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

import pytest
from torch import nn
from zoo import PlainVGG, snapshot

from attnzoo.errors import SiteError
from attnzoo.surgery.changes import Changes


class _Derived(nn.Sequential):
    pass


def _note(*_: Any) -> None:
    pass


def _all_kinds(model: PlainVGG) -> Changes:
    """Every kind of change, one of each on modules of their own and several on one."""
    changes = Changes(model)
    changes.put(model, "last", nn.ReLU())
    changes.take(model.features, "1")
    entries = {"first": nn.Identity(), **changes.children(model.features)}
    changes.set_children(model.features, entries)
    changes.set_class(model.features, _Derived)
    changes.set_kind(model.features, OrderedDict)
    changes.set_attribute(model, "note", 3)
    changes.drop_attribute(model, "former")
    changes.add_hook(model, "_forward_hooks", _note)
    changes.add_hook(model.features, "_forward_pre_hooks", _note)
    return changes


def test_nothing_is_touched_before_the_step() -> None:
    model = PlainVGG()
    model.former = 1
    number = model.register_forward_hook(_note).id
    untouched = snapshot(model)
    changes = _all_kinds(model)
    changes.drop_hook(model, "_forward_hooks", number)
    assert snapshot(model) == untouched
    assert changes.attribute(model, "note") == 3
    assert changes.attribute(model, "former", "gone") == "gone"
    assert isinstance(changes.get("last"), nn.ReLU)
    assert isinstance(changes.get("features.first"), nn.Identity)
    with pytest.raises(SiteError, match=r"no module at 'features\.1'.*it has first, 0, 2"):
        changes.get("features.1")
    changes.commit()
    assert list(model._modules)[-1] == "last"
    assert list(model.features._modules) == ["first", "0", "2", "3", "4", "5", "6"]
    assert type(model.features) is _Derived
    assert type(model.features._modules) is OrderedDict
    assert model.note == 3
    assert not hasattr(model, "former")
    assert number not in model._forward_hooks
    assert list(model._forward_hooks.values()) == [_note]
    assert list(model.features._forward_pre_hooks.values()) == [_note]


def test_a_handle_of_somebody_elses_hook_stays_good() -> None:
    model = PlainVGG()
    handle = model.register_forward_hook(_note)
    changes = Changes(model)
    changes.add_hook(model, "_forward_hooks", _note)
    changes.commit()
    handle.remove()
    assert len(model._forward_hooks) == 1


def test_no_step_of_python_comes_in_between() -> None:
    """Between two steps of Python a handler may raise, and another thread may run."""
    model = PlainVGG()
    model.former = 1
    changes = _all_kinds(model)
    seen: list[str] = []

    def watch(frame: Any, event: str, arg: Any) -> Any:
        if event in ("call", "line"):
            changed = (hasattr(model, "last"), hasattr(model, "note"), hasattr(model, "former"))
            seen.append("new" if changed == (True, True, False) else "old")
            assert changed in ((True, True, False), (False, False, True))
        return watch

    former = sys.gettrace()
    sys.settrace(watch)
    try:
        changes.commit()
    finally:
        sys.settrace(former)
    assert "old" in seen
    assert type(model.features) is _Derived
