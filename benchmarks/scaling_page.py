"""The tables of docs/scaling.md: what benchmarks/scaling.jsonl holds, and the plan that follows from it (scaling_plan.py).

Usage: python benchmarks/scaling_page.py [--page docs/scaling.md]
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huesong.report.tables import put_into
from scaling import PROBE_SIZES, READS, REPEATS, ROOT, STEPS, lines

NAMES = {
    "pieces": "a piece read: cleaned, features, statistics, base tokens",
    "pictures": "a painted picture read for `builtin`",
    "photos": "a photograph read, and encoded by a frozen MobileNetV2",
    "piece-labels": "a segment labelled by trees and a kernel machine",
    "picture-labels": "a picture labelled from 16 x 1,280 features and colours",
    "pairs": "a picture paired with 8 pieces, evenly spread",
}
WHOLE = ("picture-labels", "pairs")
"""Probes that hold all items at once; the others work in batches, whatever the count."""


def main() -> None:
    """Write both parts of the page."""
    from scaling_plan import plan

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "scaling.md")
    page = parser.parse_args().page
    put_into(page, "stages", f"{machine()}\n{stage_table()}\n{step_line()}\n\n{probe_table()}")
    put_into(page, "plan", plan(page.read_text(encoding="utf-8")))


# --- reading ---------------------------------------------------------------------------------------


def found(**key: Any) -> list[dict[str, Any]]:
    """The lines about this."""
    return [line for line in lines() if key.items() <= line.items()]


def value(what: str, **key: Any) -> float:
    """The median of a figure over the lines about this."""
    return statistics.median(line[what] for line in found(**key))


def by_size(what: str, **key: Any) -> list[tuple[int, float]]:
    """(size, median of `what`) of the sizes that were measured."""
    return [(size, value(what, size=size, **key)) for size in REPEATS if found(size=size, **key)]


def step_seconds() -> list[float]:
    """CPU seconds of a step of training, by size."""
    few, many = (by_size("cpu", stage="train", steps=steps) for steps in STEPS)
    less = dict(few)
    return [(more - less[size]) / (STEPS[1] - STEPS[0]) for size, more in many]


def step_tokens() -> float:
    """Tokens that a step predicts, at 1x."""
    few, many = (value("tokens_seen", stage="train", steps=steps, size=1) for steps in STEPS)
    return (many - few) / (STEPS[1] - STEPS[0])


def training_speed() -> float:
    """Tokens that training predicts in a CPU second."""
    return step_tokens() / statistics.median(step_seconds())


def exponent(points: list[tuple[int, float]]) -> float:
    """Of growth: the slope of a line through the logarithms, by least squares."""
    return statistics.linear_regression([math.log(size) for size, _ in points], [math.log(v) for _, v in points]).slope


@dataclass
class Item:
    """What one more item of a probe costs, between the smallest and the largest count."""

    seconds: float
    bytes: float
    """Between the two largest counts: at the smallest, starting may have had the peak."""
    exponent: float
    """Of the whole beyond the start: 1 if an item costs the same between the lower two counts and the upper two."""
    count: float
    """Around which it was measured."""

    @classmethod
    def of(cls, probe: str) -> Item:
        """Read off its three counts."""
        counts = PROBE_SIZES[probe]
        cpu, memory = ([value(what, probe=probe, count=count) for count in counts] for what in ("cpu", "mib"))
        steps = [y - x for x, y in itertools.pairwise(counts)]
        slopes = [(y - x) / step for (x, y), step in zip(itertools.pairwise(cpu), steps, strict=True)]
        middles = [math.sqrt(x * y) for x, y in itertools.pairwise(counts)]
        steeper = math.log(slopes[1] / slopes[0]) / math.log(middles[1] / middles[0]) if min(slopes) > 0 else math.nan
        return cls(
            seconds=(cpu[2] - cpu[0]) / (counts[2] - counts[0]),
            bytes=(memory[2] - memory[1]) * 2**20 / steps[1],
            exponent=1 + steeper,
            count=math.sqrt(counts[0] * counts[2]),
        )


# --- writing ---------------------------------------------------------------------------------------


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |\n"


def head(*cells: str) -> str:
    """The first two lines of a table."""
    return row(*cells) + row(*("---" for _ in cells))


def short(number: float) -> str:
    """Two or three digits, whole numbers in full."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}" if number >= 10 else f"{number:.2g}"


def side(numbers: Iterable[float]) -> str:
    """Figures side by side."""
    return " / ".join(short(number) for number in numbers)


def sizes(what: str, unit: float = 1.0, **key: Any) -> str:
    """A figure at all sizes, a dash where there is none."""
    known = dict(by_size(what, **key))
    return " / ".join(short(known[size] / unit) if size in known else "-" for size in REPEATS)


def machine() -> str:
    """What it was measured on."""
    host = next(line for line in lines() if "cores" in line)
    loads = [line["load"] for line in lines() if "load" in line]
    return (
        f"{host['cpu']}, {host['cores']} cores, {host['gib']} GiB, Python {host['python']}, torch {host['torch']}, "
        f"{host['date']}; load {min(loads):.1f} to {max(loads):.1f}; medians.\n"
    )


def stage_table() -> str:
    """The stages by size."""
    at = " / ".join(f"{size}x" for size in REPEATS)
    text = head(
        "stage",
        f"n, {at}",
        "CPU s",
        "range at 1x",
        "exponent",
        "CPU ms a file more",
        "wall s",
        "peak MiB",
        "MB read",
        "MB written",
    )
    files = dict(by_size("files", stage="preprocess"))
    for stage in READS:
        for steps in STEPS if stage == "train" else (0,):
            key: dict[str, Any] = {"stage": stage, "steps": steps}
            cpu, once = by_size("cpu", **key), [line["cpu"] for line in found(**key, size=1)]
            text += row(
                f"{stage}, {steps} steps" if steps else stage,
                side(len(found(**key, size=size)) for size in REPEATS),
                sizes("cpu", **key),
                f"{short(min(once))} - {short(max(once))}",
                f"{exponent(cpu):.2f}",
                short((cpu[-1][1] - cpu[0][1]) / (files[cpu[-1][0]] - files[1]) * 1e3),
                *(sizes(what, **key) for what in ("wall", "mib")),
                *(sizes(what, 1e6, **key) for what in ("read", "written")),
            )
    return text


def step_line() -> str:
    """What a step of training and a checkpoint cost."""
    parameters = value("parameters", stage="train")
    checkpoint = max(line["checkpoint"] for line in found(stage="train"))  # seen while it was written: the most is all
    return (
        f"One step of training, of {step_tokens():,.0f} tokens: {side(step_seconds())} CPU seconds, "
        f"or {training_speed():,.0f} tokens a CPU second. A checkpoint of {parameters:,.0f} parameters has up to "
        f"{checkpoint / 1e6:.1f} MB, {checkpoint / parameters:.1f} bytes a parameter."
    )


def probe_table() -> str:
    """What one item costs."""
    text = head("one item", "counts", "CPU s of the process", "CPU ms an item", "exponent", "KiB an item")
    for probe, what in NAMES.items():
        item, counts = Item.of(probe), PROBE_SIZES[probe]
        cpu = side(value("cpu", probe=probe, count=count) for count in counts)
        kib = short(item.bytes / 1024) if probe in WHOLE else "-"
        text += row(what, side(counts), cpu, short(item.seconds * 1e3), f"{item.exponent:.2f}", kib)
    return text


if __name__ == "__main__":
    main()
