"""The drawings of the concept pages."""

from __future__ import annotations

from attnzoo.surgery.svg import Drawing


def flow() -> Drawing:
    """From a model to an attended model and back."""
    d = Drawing(900, 250)
    stations = [
        (10, 90, "model", "plain"),
        (190, 90, "Trace", "map"),
        (370, 90, "Sites", "map"),
        (550, 90, "Plan", "map"),
        (750, 140, "model\nwith attention", "attention"),
    ]
    for x, w, name, kind in stations:
        d.box(x, 70, w, 60, name, kind, style="bold")
    verbs = [("probe", "one forward", "on meta tensors")]
    verbs += [("policy", "pure", ""), ("block", "pure", ""), ("apply", "all or nothing", "")]
    for (x, w, *_), (after, *_), (verb, note, more) in zip(
        stations, stations[1:], verbs, strict=False
    ):
        middle = (x + w + after) / 2
        d.arrow((x + w + 4, 100), (after - 4, 100))
        d.text(middle, 56, verb, "bold accent")
        d.text(middle, 152, note, "small soft")
        d.text(middle, 168, more, "small soft")
    d.arrow((820, 134), (820, 215), (55, 215), (55, 136), style="flow")
    d.text(437, 207, "unwrap: the same modules, keys and outputs as before", "small")
    d.arrow((10, 20), (640, 20), style="line", head=False)
    d.arrow((10, 14), (10, 26), head=False)
    d.arrow((640, 14), (640, 26), head=False)
    d.text(
        325, 14, "everything that can fail fails here, before the model is touched", "small soft"
    )
    return d


def start() -> Drawing:
    """The two ways to start: y = x + γ·(block(x) − x), and y = block(x)."""
    d = Drawing(900, 210)
    d.text(225, 22, 'start="identity"', "mono bold")
    d.text(30, 115, "x", "bold")
    d.arrow((42, 110), (105, 110))
    d.box(105, 85, 90, 50, "block", "attention", style="bold")
    d.arrow((195, 110), (234, 110))
    d.plus(246, 110, "−")
    d.arrow((70, 110), (70, 165), (246, 165), (246, 122))
    d.arrow((257, 110), (294, 110))
    d.box(294, 88, 50, 44, "× γ", "attention")
    d.arrow((344, 110), (384, 110))
    d.plus(396, 110)
    d.arrow((70, 110), (70, 55), (396, 55), (396, 98))
    d.arrow((407, 110), (440, 110))
    d.text(452, 115, "y", "bold")
    d.text(225, 195, "γ = 0 for each channel at first: y is x, bit for bit", "small soft")
    d.text(730, 22, 'start="paper"', "mono bold")
    d.text(600, 115, "x", "bold")
    d.arrow((612, 110), (685, 110))
    d.box(685, 85, 90, 50, "block", "attention", style="bold")
    d.arrow((775, 110), (848, 110))
    d.text(862, 115, "y", "bold")
    d.text(730, 195, "the block acts at once, as its paper has it", "small soft")
    return d


def local_attention() -> Drawing:
    """LocalAttention: two gates and their product."""
    d = Drawing(900, 230)
    d.text(28, 115, "x", "bold")
    d.text(12, 134, "(N, C, H, W)", "small soft", anchor="start")
    d.arrow((42, 110), (860, 110))
    squeeze = "conv 1×1, C → C/r"
    rows = [
        (
            30,
            "channel gate",
            ["mean over H, W", "conv 1×1, C → C/r", "relu", "conv 1×1, C/r → C", "σ"],
        ),
        (160, "spatial gate", [squeeze, "relu", "conv 1×1, C/r → 1", "σ"]),
    ]
    for y, name, steps in rows:
        d.arrow((100, 110), (100, y + 17), (122, y + 17))
        x = 122.0
        for step in steps:
            w = 40 if step == "σ" else 52 if step == "relu" else 128
            d.box(x, y, w, 34, step, "attention", style="small")
            x += w
            if step != "σ":
                d.arrow((x, y + 17), (x + 14, y + 17), head=False)
                x += 14
        shape = "(N, C, 1, 1)" if name == "channel gate" else "(N, 1, H, W)"
        d.arrow((x, y + 17), (730, y + 17), (730, 99 if y < 100 else 121))
        d.text(745, y + 15, name, "small bold", anchor="start")
        d.text(745, y + 31, shape, "small soft", anchor="start")
    d.plus(730, 110, "×")
    d.text(875, 115, "y", "bold")
    return d


def _chain(d: Drawing, x: float, y: float, names: list[tuple[str, str]], w: float = 62) -> None:
    """Layers one after another, from left to right, a small arrow between them."""
    d.arrow((x - 18, y), (x, y))
    for name, kind in names:
        width = 30 if kind == "attention" and not name else w
        d.box(x, y - 17, width, 34, name, kind, style="small")
        x += width
        d.arrow((x, y), (x + 14, y))
        x += 14


def policies() -> Drawing:
    """Where each policy puts attention."""
    d = Drawing(900, 820)
    a = ("", "attention")

    def title(x: float, y: float, name: str, note: str) -> None:
        d.text(x, y, name, "mono bold", anchor="start")
        d.text(x, y + 18, note, "small soft", anchor="start")

    title(20, 24, "pre-pool", "before every spatial pooling layer")
    _chain(d, 38, 85, [("conv", "map"), ("conv", "map"), a, ("pool", "pool"), ("conv", "map")])

    title(480, 24, "transition", "DenseNet: in every transition, before its pool")
    _chain(
        d, 498, 85, [("dense", "map"), ("conv 1×1", "map"), a, ("pool", "pool"), ("dense", "map")]
    )

    title(20, 160, "post-residual", "after every residual block")
    d.box(52, 204, 290, 92, "", "ghost")
    d.arrow((20, 260), (90, 260))
    d.arrow((_residual(d, 90, inner=False), 260), (356, 260))
    d.box(356, 243, 30, 34, "", "attention")
    d.arrow((386, 260), (416, 260))

    title(480, 160, "in-residual", "on the residual branch, before the addition")
    d.box(512, 204, 340, 92, "", "ghost")
    d.arrow((480, 260), (550, 260))
    d.arrow((_residual(d, 550, inner=True), 260), (880, 260))

    title(20, 336, 'mbconv (position="after")', "after every MBConv block")
    _mbconv(d, 20, 436, se=False)
    title(480, 336, 'mbconv (position="se")', "in the squeeze-excite slot")
    _mbconv(d, 480, 436, se=True)

    title(20, 506, "stage-end", "after the last feature map of every resolution level")
    x = 44.0
    d.arrow((20, 580), (x, 580))
    for height in (72, 52, 38):
        for _ in range(2):
            d.slab(x, 580 - height / 2, 24, height, "map")
            x += 29
        d.slab(x, 580 - height / 2, 14, height, "attention")
        d.arrow((x + 14, 580), (x + 44, 580))
        x += 44
    d.box(480, 500, 30, 20, "", "attention")
    d.text(520, 515, "attention", anchor="start")
    d.box(480, 530, 30, 20, "", "map")
    d.text(520, 545, "the network's own layers", anchor="start")
    d.box(480, 560, 30, 20, "", "pool")
    d.text(520, 575, "a spatial pool", anchor="start")

    title(20, 650, "neck", "on the levels that a head is given")
    _levels(d, 20, 745, head=True)
    title(352, 650, "decoder", "after every decoder block")
    _levels(d, 352, 745, head=False)
    title(610, 650, "in-block", "on the inner branches of C2f, CSP, ELAN")
    d.box(640, 692, 230, 100, "", "ghost")
    d.arrow((612, 730), (660, 730))
    x = 660.0
    for width, kind in ((44, "map"), (44, "map"), (20, "attention")):
        d.box(x, 715, width, 30, "", kind)
        x += width
        d.arrow((x, 730), (x + 10, 730))
        x += 10
    d.plus(x + 11, 730)
    d.arrow((650, 730), (650, 703), (x + 11, 703), (x + 11, 719))
    d.arrow((650, 730), (650, 775), (x + 42, 775), (x + 42, 746))
    d.box(x + 34, 714, 16, 32, "", "map")
    d.arrow((x + 22, 730), (x + 34, 730))
    d.arrow((x + 50, 730), (x + 86, 730))
    return d


def _levels(d: Drawing, x: float, y: float, *, head: bool) -> None:
    """An encoder's levels, and what comes back of them: attention on each of those."""
    heights = (84, 58, 36)
    for height in heights:
        d.slab(x, y - height / 2, 22, height, "map")
        x += 28
    d.arrow((x - 4, y), (x + 16, y))
    x += 20
    back = heights[::-1] if head else heights[1::-1]
    for height in back:
        d.slab(x, y - height / 2, 22, height, "map")
        d.slab(x + 24, y - height / 2 - 3, 12, height + 6, "attention")
        x += 46
    d.arrow((x - 8, y), (x + 10, y))
    if head:
        d.box(x + 10, y - 20, 50, 40, "head", style="small")


def _residual(d: Drawing, x: float, inner: bool) -> float:
    """A residual block; returns where its output leaves the addition."""
    d.box(x, 243, 62, 34, "conv", "map", style="small")
    d.arrow((x + 62, 260), (x + 78, 260))
    d.box(x + 78, 243, 62, 34, "conv", "map", style="small")
    end = x + 140
    if inner:
        d.arrow((end, 260), (end + 16, 260))
        d.box(end + 16, 243, 30, 34, "", "attention")
        end += 46
    add = end + 68
    d.arrow((end, 260), (add - 11, 260))
    d.plus(add, 260)
    d.arrow((x - 18, 260), (x - 18, 222), (add, 222), (add, 249))
    return add + 11


def _mbconv(d: Drawing, x: float, y: float, se: bool) -> None:
    d.box(x + 30, y - 58, 330 if se else 292, 92, "", "ghost")
    d.arrow((x, y), (x + 56, y))
    at = x + 56
    steps = [("expand", "map"), ("depthw.", "map"), ("", "attention"), ("project", "map")]
    for name, kind in steps if se else [s for s in steps if s[0]]:
        w = 62 if name else 30
        d.box(at, y - 17, w, 34, name, kind, style="small")
        at += w
        d.arrow((at, y), (at + 14, y))
        at += 14
    d.plus(at + 11, y)
    d.arrow((x + 40, y), (x + 40, y - 40), (at + 11, y - 40), (at + 11, y - 11))
    out = at + 22
    if se:
        d.arrow((out, y), (x + 400, y))
        return
    d.arrow((out, y), (x + 346, y))
    d.box(x + 346, y - 17, 30, 34, "", "attention")
    d.arrow((x + 376, y), (x + 406, y))


def mechanisms() -> Drawing:
    """The module tree before and after each mechanism."""
    d = Drawing(900, 300)
    block, added = (0, "layer1.0", "plain"), (1, "attention", "attention")
    conv1, conv2 = (1, "conv1", "map"), (1, "conv2", "map")
    features, conv, pool = (0, "features", "plain"), (1, "3", "map"), (1, "4", "pool")
    wrapper, host = (0, "maxpool: Attended", "attention"), (1, "host", "pool")
    panels = [
        ("slot", "an empty place the block has", [block, conv2, (1, "bn2", "map"), added]),
        ("insert", "a new entry, none renumbered", [features, conv, added, pool]),
        ("hook", "a child and a forward hook", [block, conv1, conv2, added]),
        ("wrap", "a module around the host", [wrapper, host, added]),
    ]
    notes = [
        ("keys stay", "types stay"),
        ("keys stay", "types stay"),
        ("keys stay", "types stay"),
        ("keys gain “.host.”", "survives every conversion"),
    ]
    for column, ((name, what, rows), note) in enumerate(zip(panels, notes, strict=True)):
        x = 15 + 222 * column
        d.text(x, 24, name, "mono bold accent", anchor="start")
        d.text(x, 44, what, "small soft", anchor="start")
        for row, (depth, label, kind) in enumerate(rows):
            y = 62 + 44 * row
            indent = 24 * depth
            d.box(x + indent, y, 190 - indent, 32, label, kind, style="mono")
            if depth:
                d.arrow((x + 10, 94), (x + 10, y + 16), (x + indent, y + 16), head=False)
        d.text(x, 262, note[0], "small", anchor="start")
        d.text(x, 282, note[1], "small", anchor="start")
    return d
