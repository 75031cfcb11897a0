"""The words of the generated pages, in both languages, and what is written of each block."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from shared import Language, docstring_parts

from attnzoo.registry import BlockSpec

WRITTEN = Path(__file__).parent / "zoo"
WORDS_FILE = "words.yaml"

WORDS: dict[str, dict[Language, str]] = {
    "formula": {"en": "Formula", "zh": "公式"},
    "as text": {"en": "As text", "zh": "文本形式"},
    "flow": {"en": "Data flow", "zh": "数据流"},
    "flow of": {"en": "Data flow of {}: {}", "zh": "{} 的数据流：{}"},
    "learned": {"en": "has parameters", "zh": "有参数"},
    "fixed": {"en": "has none", "zh": "无参数"},
    "use": {"en": "Use", "zh": "用法"},
    "options": {"en": "Options", "zh": "选项"},
    "option": {"en": "option", "zh": "选项"},
    "default": {"en": "default", "zh": "默认值"},
    "meaning": {"en": "meaning", "zh": "含义"},
    "no options": {"en": "It has none.", "zh": "没有选项。"},
    "cost": {"en": "Cost and memory", "zh": "代价与显存"},
    "map": {"en": "map", "zh": "特征图"},
    "parameters": {"en": "parameters", "zh": "参数量"},
    "kept": {"en": "kept, in maps", "zh": "保留（以图计）"},
    "cost note": {
        "en": "For one image and the default options. *Kept* is what a training step holds for "
        "its backward pass with `start=\"paper\"`, over the size of the map; the input itself "
        "counts as 1.00 where it is held. All are counted from the code when this site is built.",
        "zh": "针对一张图像与默认选项。*保留*指 `start=\"paper\"` 时，一个训练步为反向传播"
        "留下的数据量与特征图大小之比；若留下输入本身，它算 1.00。所有数字都在生成本站时"
        "由代码统计得出。",
    },
    "keeps": {"en": "Reach, starts and limits", "zh": "视野、起点与限制"},
    "sees": {"en": "sees", "zh": "视野"},
    "starts": {"en": "starts", "zh": "起点"},
    "property": {"en": "property", "zh": "属性"},
    "value": {"en": "value", "zh": "值"},
    "maps": {"en": "attention maps", "zh": "注意力图"},
    "no maps": {"en": "none", "zh": "无"},
    "identity": {"en": "is the identity when built", "zh": "初始即恒等映射"},
    "yes": {"en": "yes", "zh": "是"},
    "no": {"en": "no", "zh": "否"},
    "limit": {"en": "limit", "zh": "限制"},
    "no limits": {"en": "none: any shape, dtype and memory format, `torch.compile`, "
                  "`torch.export`, ONNX", "zh": "无：任意形状、数据类型与内存格式，"
                  "`torch.compile`、`torch.export`、ONNX 均可"},
    "compared": {"en": "Compared", "zh": "对比实验"},
    "not compared": {
        "en": "No study published here has compared it yet. "
        "[Write one](../{studies}): a file of ten lines.",
        "zh": "本站发布的研究尚未比较过它。[写一个](../{studies})，只要十行。",
    },
    "study": {"en": "study", "zh": "研究"},
    "network": {"en": "network", "zh": "网络"},
    "variant": {"en": "variant", "zh": "变体"},
    "against": {"en": "against", "zh": "对照"},
    "points": {"en": "points", "zh": "百分点"},
    "seeds": {"en": "seeds", "zh": "种子数"},
    "verdict": {"en": "verdict", "zh": "结论"},
    "paper": {"en": "Paper", "zh": "论文"},
    "no paper": {"en": "It has no paper.", "zh": "没有论文。"},
    "kind": {"en": "attends over", "zh": "关注"},
    "year": {"en": "year", "zh": "年份"},
    "block": {"en": "block", "zh": "模块"},
    "neutral": {"en": "neutral start", "zh": "中性起点"},
    "exports": {"en": "exports", "zh": "可导出"},
    "with limits": {"en": "with limits", "zh": "有限制"},
    "filter": {"en": "Filter by name or title", "zh": "按名称或标题筛选"},
    "any": {"en": "any", "zh": "不限"},
    "shown": {"en": "{} of {} blocks", "zh": "{} / {} 个模块"},
    "explorer": {"en": "Block explorer", "zh": "模块浏览器"},
    "layer": {"en": "layer", "zh": "层"},
    "limits": {"en": "limits", "zh": "限制"},
}  # fmt: skip
SPACE: dict[str, dict[Language, str]] = {
    "position": {"en": "its own position", "zh": "自身位置"},
    "window": {"en": "a window of {0}×{0}", "zh": "{0}×{0} 的窗口"},
    "lines": {"en": "its row and column", "zh": "所在的行与列"},
    "map": {"en": "the whole map", "zh": "整张特征图"},
}
BROAD: dict[str, dict[Language, str]] = {
    "position": {"en": "its position", "zh": "自身位置"},
    "window": {"en": "a window", "zh": "窗口"},
    "lines": {"en": "row and column", "zh": "行与列"},
    "map": {"en": "the map", "zh": "整张图"},
}
CHANNELS: dict[str, dict[Language, str]] = {
    "own": {"en": "its own channel", "zh": "自身通道"},
    "some": {"en": "{} of 256 channels", "zh": "256 个通道中的 {} 个"},
    "all": {"en": "all channels", "zh": "所有通道"},
}
WIDER: dict[Language, str] = {"en": " ({} wide)", "zh": "（宽 {}）"}
MAP_KINDS: dict[str, dict[Language, str]] = {
    "channel": {"en": "channel", "zh": "通道"},
    "spatial": {"en": "spatial", "zh": "空间"},
    "both": {"en": "both", "zh": "两者"},
    "context": {"en": "context", "zh": "上下文"},
    "control": {"en": "control", "zh": "对照"},
    "pairwise": {"en": "pairwise", "zh": "两两之间"},
}
# English in both: an identifier of the API.
LIMITS_ZH = {
    "shapes": "形状",
    "options": "选项",
    "determinism": "确定性",
    "compile": "torch.compile",
    "export": "torch.export",
    "onnx": "ONNX",
    "maps": "注意力图",
    "opencv": "OpenCV",
    "neutral": "中性起点",
}
COUNTED_ZH = {
    r"^Parameters: ": "参数量：",
    r"^MACs: ": "MACs：",
    r",\s+with ": "，其中 ",
    r" and (?=\w = )": "，",
    r"\.(?=\s*$)": "。",
}


@dataclass(frozen=True)
class Written:
    """What is written by hand of a block.

    Attributes:
        tex: the formula, a line each, ` @ ` before a shape.
        flow: the lanes of its drawing.
        zh: title, summary, notes and limits in Chinese.
        of: which English text the Chinese one says: its checksum.
    """

    tex: str
    flow: str
    zh: dict[str, Any]
    of: str


@cache
def by_hand() -> dict[str, Written]:
    """Block → what is written of it."""
    found: dict[str, Written] = {}
    for path in sorted(WRITTEN.glob("*.yaml")):
        if path.name != WORDS_FILE:
            for name, entry in yaml.safe_load(path.read_text("utf-8")).items():
                found[name] = Written(
                    entry["tex"], entry["flow"], entry["zh"], str(entry.get("of", ""))
                )
    return found


@cache
def _chinese() -> dict[str, dict[str, str]]:
    return yaml.safe_load((WRITTEN / WORDS_FILE).read_text("utf-8"))


def checksum(spec: BlockSpec) -> str:
    """Of the English that the Chinese page of a block says too."""
    said = [spec.summary, docstring_parts(spec)[1], *spec.limits.values()]
    return f"{zlib.crc32(' '.join(' '.join(said).split()).encode()):08x}"


def word(key: str, tongue: Language) -> str:
    """A word of the pages."""
    return WORDS[key][tongue]


def option_meaning(text: str, tongue: Language) -> str:
    """What an option is, from its docstring.

    Raises:
        KeyError: nobody has put it into Chinese.
    """
    return text if tongue == "en" or not text else _chinese()["options"][text]


def flow_words(text: str, tongue: Language) -> str:
    """A step of a drawing."""
    if tongue == "zh":
        for english, chinese in _chinese()["flow"].items():
            text = re.sub(rf"(?<![\w]){re.escape(english)}(?!\w)", chinese, text)
    return text
