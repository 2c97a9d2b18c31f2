"""Write what docs/integrations.md and .zh.md say of the rows of hf_models.py: python benchmarks/hf_docs.py."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from typing import Any

from rows import RESULTS

FILE = RESULTS / "hf_models.jsonl"
WHY = {
    "gemma3n": ("its vision tower needs the timm package", "视觉塔需要 timm 包"),
    "gemma4_assistant": ("drafts for another model, whose cache it needs", "为另一个模型起草，需要那个模型的缓存"),
    "gemma4_unified_assistant": ("the same", "同上"),
    "mobilebert": ("glues its head together from two matrices", "输出矩阵由两块拼成"),
    "musicgen": ("several heads, stacked", "多个输出层，结果堆叠"),
    "musicgen_melody": ("the same", "同上"),
    "perceiver": ("names no output layer", "没有指明输出层"),
    "prophetnet": ("several tokens at a time, transposed", "一次预测多个词元，经过转置"),
}
WORDS: dict[str, dict[str, str]] = {
    "": {
        "head": "| task | registered | without logits | own loss, from logits | not run |",
        "causal": "causal",
        "masked": "masked",
        "about": "transformers {transformers}, torch {torch}, {date}. Largest difference from the model's own loss: "
        "{loss:.0e} relative; from its gradients: {gradient:.0e} of the largest entry.",
        "fallback": "Own loss, from logits: {}.",
        "does not run": "Not run: {}.",
        "items": "{ignored} of {all} "
        "take `num_items_in_batch` and do not divide by it. Causal: {causal}. Masked: {masked}.",
        "shift": "Causal models that do not shift their labels (`compute_loss_func` needs `shift=False` for them): {}.",
    },
    ".zh": {
        "head": "| 任务 | 已注册 | 不产生 logits | 用自己的损失（产生 logits） | 未运行 |",
        "causal": "因果",
        "masked": "掩码",
        "about": "transformers {transformers}，torch {torch}，{date}。"
        "与模型自己的损失相比，相对差最大为 {loss:.0e}；梯度之差最大为其最大元素的 {gradient:.0e}。",
        "fallback": "用自己的损失：{}。",
        "does not run": "未运行：{}。",
        "items": "{all} 个模型中有 {ignored} 个"
        "接受 `num_items_in_batch` 却不用它作除数。因果：{causal}。掩码：{masked}。",
        "shift": "不移位标签的因果模型（`compute_loss_func` 需要 `shift=False`）：{}。",
    },
}
WHICH = ("causal", "masked")
START, END = "<!-- models:start -->", "<!-- models:end -->"


def docs(rows: list[dict[str, Any]], language: str) -> str:
    """Return what docs/integrations.md (or .zh.md, for ".zh") says of the rows."""
    words, chinese = WORDS[language], bool(language)
    lines: list[str] = [words["head"], "| --- | --- | --- | --- | --- |"]
    for task in WHICH:
        count = Counter(row["status"] for row in rows if row["task"] == task)
        cells = [words[task], count.total(), count["pass"], count["fallback"], count["does not run"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    worst = {kind: max(row.get(f"{kind}_error", 0.0) for row in rows) for kind in ("loss", "gradient")}
    prose = [words["about"].format(**rows[0] | worst)]
    for status in ("fallback", "does not run"):
        mark = "`{}`（{}）" if chinese else "`{}` ({})"
        mine = [row for row in rows if row["status"] == status]
        named = [mark.format(r["type"], WHY.get(r["type"], (r["why"],) * 2)[chinese]) for r in mine]
        prose.append(words[status].format(("、" if chinese else ", ").join(named)))
    between = "、" if chinese else ", "
    unshifted = [f"`{r['type']}`" for r in rows if r["task"] == "causal" and r.get("shift") is False]
    prose.append(words["shift"].format(between.join(unshifted)))
    ignored = {t: [f"`{r['type']}`" for r in rows if r["task"] == t and r.get("items") is False] for t in WHICH}
    counts = {"ignored": sum(map(len, ignored.values())), "all": len(rows)}
    prose.append(words["items"].format(**counts, **{t: between.join(names) for t, names in ignored.items()}))
    return "\n".join(lines) + "\n\n" + "\n\n".join(wrapped(text, 60 if chinese else 120) for text in prose)


def wrapped(text: str, width: int) -> str:
    """Return the text in lines: at blanks, or in Chinese after punctuation."""
    if width > 100:
        return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))
    lines = [""]
    for part in re.split(r"(?<=[，。；、：])", text):
        if len(lines[-1]) + len(part) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def main() -> None:
    """Put what the rows say into both pages."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    for language in WORDS:
        page = FILE.parents[2] / "docs" / f"integrations{language}.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(START)
        after = rest.partition(END)[2]
        page.write_text(f"{before}{START}\n{docs(rows, language)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
