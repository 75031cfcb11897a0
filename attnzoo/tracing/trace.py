"""What one forward pass does, as plain data: module calls, operations and the values between them.

A `Trace` holds no tensor and no module, so everything computed from it is a pure function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from attnzoo.errors import SiteError
from attnzoo.tracing.parts import Call, ModuleInfo, Op, Value, around
from attnzoo.tracing.patches import maps_in_patches
from attnzoo.tracing.sites import Site, Where

__all__ = ["LEVEL_RATIO", "Trace"]

#: A new resolution level begins where the height shrinks at least this much. Unpadded
#: convolutions (149 → 147) stay within a level; every pool and stride leaves it.
LEVEL_RATIO = 1.4


@dataclass(frozen=True, eq=False)
class Trace:
    """One forward pass as data. Made by `attnzoo.tracing.probe.probe`; read by policies.

    Attributes:
        model: class name of the model.
        values, ops, calls: in the order in which they came about.
        modules: what the module tree says, by the first path of each module.
        outputs: values that the model returned.
        returned: shapes of all tensors that it returned.
        stopped: why it could not be followed to its end, and the line of code where; empty if it
            was.
        assumed: lines of code that ask for values of maps, where it went on as for numbers between
            0 and 1, or for the example's.
        ahead: paths of modules that would have been called after that, as far as the code tells.
        positions_read: paths of modules whose children were counted, indexed or run over.
        children_run: these, and those that `nn.Sequential.forward` ran over.
        unread: calls that return a tensor they were given, and nobody reads what they return.
        altering: calls that change a tensor they are given, which is read itself afterwards.
        unlearning: calls under `torch.inference_mode()`, through which no gradient flows.
    """

    model: str
    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    calls: tuple[Call, ...]
    modules: dict[str, ModuleInfo]
    outputs: tuple[int, ...]
    returned: tuple[tuple[int, ...], ...] = ()
    stopped: str = ""
    assumed: tuple[str, ...] = ()
    ahead: frozenset[str] = frozenset()
    positions_read: frozenset[str] = frozenset()
    children_run: frozenset[str] = frozenset()
    unread: frozenset[int] = frozenset()
    altering: frozenset[int] = frozenset()
    unlearning: frozenset[int] = frozenset()
    _users: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """The tensors that the model was given."""
        return tuple(value for value in self.values if value.op < 0)

    # --- places -----------------------------------------------------------------------------

    def after(self, call: Call) -> Site:
        """The site on the feature map that `call` returns."""
        returned = call.outputs if call.returns_tensor else ()
        return self._site(call, "after", returned, "returns")

    def before(self, call: Call) -> Site:
        """The site on the feature map that `call` is given, seen by this call alone."""
        taken = call.inputs[:1] if call.takes_tensor else ()
        return self._site(call, "before", taken, "takes")

    def replace(self, call: Call) -> Site:
        """The site in place of `call`, which must keep the shape of its feature map."""
        returned = call.outputs if call.returns_tensor and call.takes_tensor else ()
        site = self._site(call, "replace", returned, "returns")
        if self.values[call.inputs[0]].shape != self.values[site.value].shape:
            raise SiteError(
                f"{call.path!r} ({call.type}) changes the shape of its feature map; a block keeps "
                f"it, so it cannot take its place. Use where='after'."
            )
        return site

    def _site(self, call: Call, where: Where, values: tuple[int, ...], verb: str) -> Site:
        maps = [v for v in values if self.values[v].is_map]
        if len(maps) != 1:
            shapes = ", ".join(str(self.values[v].shape) for v in values) or "no single tensor"
            raise SiteError(
                f"{call.path!r} ({call.type}) {verb} {shapes}: a site needs exactly one feature "
                f"map (N, C, H, W)."
            )
        self._check_read(call, where)
        value = self.values[maps[0]]
        return Site(
            path=call.path,
            where=where,
            channels=value.channels,
            height=value.height,
            width=value.width,
            stage=self.stage(self.values[self.in_patches.get(maps[0], maps[0])]),
            axes=value.axes,
            frames=value.shape[2] if value.axes == "NCDHW" else 1,
            call=call.index,
            value=maps[0],
        )

    def _check_read(self, call: Call, where: Where) -> None:
        """Whether an attended map would be seen where the map is seen now."""
        if where != "before" and call.index in self.unread:
            raise SiteError(
                f"{call.path!r} ({call.type}) returns the tensor it is given, and what it returns "
                f"is not read: attention there would do nothing. Name the module before it."
            )
        if where != "after" and call.index in self.altering:
            raise SiteError(
                f"{call.path!r} ({call.type}) changes the tensor it is given, which is read itself "
                f"later: attention there would undo that. Name the module that makes the tensor."
            )

    # --- relations --------------------------------------------------------------------------

    def users(self, value: int) -> tuple[int, ...]:
        """Indices of the operations that read `value`, in order."""
        return self._users.get(value, ())

    def returning(self, value: int) -> list[Call]:
        """The calls that return exactly `value`, to be read, in the order in which they begin."""
        return self._by_value[0].get(value, [])

    def taking(self, value: int) -> list[Call]:
        """The calls whose first argument is `value`, in the order in which they begin."""
        return self._by_value[1].get(value, [])

    @cached_property
    def _by_value(self) -> tuple[dict[int, list[Call]], dict[int, list[Call]]]:
        returning: dict[int, list[Call]] = {}
        taking: dict[int, list[Call]] = {}
        for call in self.calls:
            if call.returns_tensor and call.outputs and call.index not in self.unread:
                returning.setdefault(call.outputs[0], []).append(call)
            if call.takes_tensor and call.inputs:
                taking.setdefault(call.inputs[0], []).append(call)
        return returning, taking

    def parent(self, call: Call) -> Call | None:
        """The call that encloses `call`."""
        return None if call.parent < 0 else self.calls[call.parent]

    def enclosing(self, call: Call) -> Iterator[Call]:
        """The calls around `call`, innermost first."""
        while call.parent >= 0:
            call = self.calls[call.parent]
            yield call

    def children(self, call: Call) -> list[Call]:
        """The calls made directly by `call`, in order."""
        return [self.calls[i] for i in self._children[call.index]]

    @cached_property
    def _children(self) -> list[list[int]]:
        children: list[list[int]] = [[] for _ in self.calls]
        for call in self.calls[1:]:
            children[call.parent].append(call.index)
        return children

    def info(self, call: Call) -> ModuleInfo:
        """What the module tree says about the module that `call` ran."""
        return self.modules[call.path]

    @cached_property
    def never_run(self) -> tuple[str, ...]:
        """Paths of the layers with parameters that a pass that was cut short did not reach."""
        if not self.stopped:
            return ()
        infos = self.modules.items()
        return tuple(
            path
            for path, info in infos
            if info.kind == "leaf" and info.has_parameters and path not in self._paths_called
        )

    @cached_property
    def _paths_called(self) -> frozenset[str]:
        return frozenset(call.path for call in self.calls)

    @cached_property
    def times_called(self) -> Counter[str]:
        """Path → how often the module was called, or would be, with what may lie ahead."""
        times = Counter(call.path for call in self.calls)
        # A container that is run by hand is named for other reasons, too: YOLO asks its last entry.
        again = self.ahead & times.keys()
        if again:
            times.update([path for path in times if not again.isdisjoint(around(path))])
        return times

    def input_map(self, call: Call) -> Value | None:
        """The feature map `call` is given first, or None."""
        value = self.values[call.inputs[0]] if call.takes_tensor and call.inputs else None
        return value if value is not None and value.is_map else None

    def output_map(self, call: Call) -> Value | None:
        """The feature map `call` returns, or None where it returns something else."""
        value = self.values[call.outputs[0]] if call.returns_tensor and call.outputs else None
        return value if value is not None and value.is_map else None

    # --- resolution levels ------------------------------------------------------------------

    def stage(self, value: Value) -> int:
        """The resolution level of a feature map, counted from 1 at the finest one.

        On ResNet these are the conv1 … conv5_x of the paper, on VGG the conv1_x … conv5_x.
        """
        for stage, smallest in enumerate(self._levels, start=1):
            if value.height >= smallest:
                return stage
        return len(self._levels) + 1

    @cached_property
    def in_patches(self) -> dict[int, int]:
        """Value that is a map cut into patches → that map."""
        return maps_in_patches(self.values, self.ops)

    @property
    def stages(self) -> int:
        """How many resolution levels there are."""
        return len(self._levels)

    def _pads(self, call: Call) -> bool:
        made_by = self.values[call.outputs[0]].op if call.outputs else -1
        return made_by >= 0 and "_pad" in self.ops[made_by].name

    @cached_property
    def _levels(self) -> list[int]:
        """The smallest height of every resolution level, finest level first.

        Maps that were only padded do not count: on small ones a border would be a level. Nor do
        those in patches.
        """
        calls = (call for call in self.calls if not self._pads(call))
        whole = (call for call in calls if self.in_patches.keys().isdisjoint(call.outputs))
        made = map(self.output_map, whole)
        heights = sorted({v.height for v in made if v is not None and v.height > 1}, reverse=True)
        levels: list[int] = []
        top = 0
        for height in heights:
            if not levels or height * LEVEL_RATIO <= top:
                levels.append(height)
                top = height
            else:
                levels[-1] = height
        return levels
