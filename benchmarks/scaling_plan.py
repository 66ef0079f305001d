"""The plan for many pieces and pictures: wishes and prices as given here, constants as measured (scaling.jsonl)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from scaling import PIECES, REPEATS, ROOT
from scaling_page import WHOLE, Item, by_size, head, row, short, training_speed, value

# --- wishes and assumptions --------------------------------------------------------------------------
MUSIC, PICTURES = 10**6, 10**7
SHARD_HOURS = 2.0
"""How long a pod of the fan-out may work."""
TAR_BYTES = 256e6
"""A packed object."""
PASSES = 10
"""Over all tokens, in the bill."""
MODELS = {"params.yaml": (64, 64, 3), "presets/gpu.yaml": (16, 1280)}
"""Settings whose training is reckoned, and what a picture is to them."""
FEATURE_BYTES = 16 * 1280 * 2
"""Of a picture, from a frozen MobileNetV2 in a grid of 4 x 4."""
GPU, GPU_FLOPS, UTILISATION = "NVIDIA L4", 121e12, 0.1
"""bfloat16 FLOP/s without sparsity, by its data sheet; the share is an assumption: small models feed a GPU badly."""

# --- prices in dollars: on-demand list prices of AWS, us-east-1, as commonly published in 2025. Check them. -----------
CORE_HOUR = 0.08925 / 2  # c7i.large has 2 vCPU and 4 GiB
GIB_HOUR = 0.1323 / 16  # r7i.large has 2 vCPU and 16 GiB: what a pod costs that needs memory more than cores
GPU_HOUR = 0.8048  # g6.xlarge has one L4
GB_MONTH = 0.023  # S3 Standard, first 50 TB
PUT, GET = 0.005 / 1000, 0.0004 / 1000  # S3 Standard

LARGEST, SMALLEST = max(REPEATS), min(REPEATS)


@dataclass
class Bill:
    """Lines of the plan and of its price."""

    plan: str = field(default_factory=lambda: head("what", "computed from", "value"))
    money: str = field(default_factory=lambda: head("money", "hours, requests or GB", "dollars"))
    total: float = 0.0

    def line(self, what: str, source: str, answer: str) -> None:
        """One line of the plan."""
        self.plan += row(what, source, answer)

    def pay(self, what: str, amount: str, dollars: float) -> None:
        """One line of the price."""
        self.money += row(what, amount, f"{dollars:,.2f}")
        self.total += dollars


def plan(page: str) -> str:
    """Both tables; `page` holds the measured costs of moving files."""
    bill = Bill()
    raw = moving(bill, page)
    preprocess(bill, raw)
    label(bill)
    train(bill)
    evaluate(bill)
    bill.pay("storage of raw data and features, a month", f"{gb(raw + kept())}", (raw + kept()) / 1e9 * GB_MONTH)
    bill.money += row("**sum**", "", f"**{bill.total:,.2f}**")
    return (
        f"{MUSIC:,} pieces and {PICTURES:,} pictures. Prices: {CORE_HOUR:.4f} a core-hour, {GIB_HOUR:.4f} a GiB-hour where memory "
        f"decides, {GPU_HOUR:.4f} a GPU-hour, {GB_MONTH} a GB-month, {PUT * 1000} and {GET * 1000} per 1,000 PUT and GET: "
        f"on-demand list prices of AWS, us-east-1, as commonly published in 2025, not looked up on the day: check them.\n\n"
        f"{bill.plan}\n{bill.money}"
    )


def moving(bill: Bill, page: str) -> float:
    """Objects and requests; bytes of raw data. The costs are slopes of the first table of the page."""
    rows = re.findall(r"^\| \d+x \| ([\d,]+) \| \S+ \| ([\d.]+) \| ([\d.]+) \| (\d+) / (\d+) \|$", page, re.MULTILINE)
    first, last = ([float(cell.replace(",", "")) for cell in rows[at]] for at in (0, -1))
    publish, fetch, *memory = ((b - a) / (last[0] - first[0]) for a, b in zip(first[1:], last[1:], strict=True))
    files = MUSIC + PICTURES
    photo, piece = value("mean_bytes", probe="photos"), at_largest("music_bytes") / (LARGEST * PIECES)
    raw = PICTURES * photo + MUSIC * piece
    tars = math.ceil(PICTURES * photo / TAR_BYTES) + math.ceil(MUSIC * piece / TAR_BYTES)
    entry = at_largest("list") / at_largest("files")
    bill.line("raw data", f"photographs of {photo:,.0f} bytes, pieces of {piece:,.0f}", gb(raw))
    bill.line("objects, one a file", "", f"{files:,}")
    bill.line("objects, packed (not built)", f"tar files of {TAR_BYTES / 1e6:.0f} MB", f"{tars:,}")
    bill.line("list of the version", f"{entry:.0f} bytes a file", gb(entry * files))
    speeds = f"{publish * 1e3:.1f} / {fetch * 1e3:.1f} ms a file"
    bill.line("publish / fetch, one pod", speeds, f"{hours(publish * files)} / {hours(fetch * files)}")
    kib = " / ".join(f"{mib * 1024:.1f}" for mib in memory)
    gib = " / ".join(f"{mib * files / 1024:.0f}" for mib in memory)
    bill.line("its memory", f"{kib} KiB a file", f"{gib} GiB")
    packed = f"packed: {tars:,}, for {tars * (PUT + GET):.2f}"
    bill.pay("publish and fetch, one object a file", f"{files:,} PUT and GET ({packed})", files * (PUT + GET))
    pod = max(CORE_HOUR, GIB_HOUR * memory[0] * files / 1024)
    bill.pay("pod that publishes and fetches", hours((publish + fetch) * files), (publish + fetch) * files / 3600 * pod)
    return raw


def preprocess(bill: Bill, raw: float) -> None:
    """Decoding, encoding, reading; the shards; and what one pod is left with."""
    photos, pictures, pieces = (Item.of(probe) for probe in ("photos", "pictures", "pieces"))
    more = at_largest("files") - value("files", stage="preprocess", size=SMALLEST)
    more_pieces = (LARGEST - SMALLEST) * PIECES
    spread = pieces.seconds * more_pieces + pictures.seconds * (more - more_pieces)
    rest = max(0.0, growth("cpu", "preprocess") - spread) / more * (MUSIC + PICTURES)
    frozen, builtin = (item.seconds * PICTURES + pieces.seconds * MUSIC for item in (photos, pictures))
    shards, fewer = (math.ceil(seconds / 3600 / SHARD_HOURS) for seconds in (frozen, builtin))
    bill.line(
        "pictures, frozen MobileNetV2", f"{short(photos.seconds * 1e3)} ms each", hours(photos.seconds * PICTURES)
    )
    bill.line("pictures, `builtin`", f"{short(pictures.seconds * 1e3)} ms each", hours(pictures.seconds * PICTURES))
    bill.line("pieces", f"{short(pieces.seconds * 1e3)} ms each", hours(pieces.seconds * MUSIC))
    bill.line("shards", f"{SHARD_HOURS:g} hours of one core each", f"{shards:,}; `builtin` {fewer:,}")
    bill.line("validation, hand-over, merge", "the rest of what preprocess grew by; not spread", hours(rest))
    bill.line("copied into the shards today", "all raw data into each", gb(raw * shards))
    bill.line("features", f"{FEATURE_BYTES:,} bytes a picture", gb(kept()))
    bill.pay("preprocess, frozen MobileNetV2", hours(frozen + rest), (frozen + rest) / 3600 * CORE_HOUR)


def label(bill: Bill) -> None:
    """Predictions and pairs. Fits are on rated items, which are no more for there being more unrated ones."""
    from huesong.music.features import FEATURE_NAMES

    cost = spent = 0.0
    for probe, what, count in (
        ("piece-labels", "labelling the pieces", MUSIC),
        ("picture-labels", "labelling the pictures", PICTURES),
        ("pairs", "pairing", PICTURES),
    ):
        item = Item.of(probe)
        grown = (count / item.count) ** (item.exponent - 1) if probe == "pairs" else 1.0
        each = item.bytes if probe in WHOLE else len(FEATURE_NAMES) * 8  # in blocks, but for the table of features
        seconds, gib = item.seconds * count * grown, each * count / 2**30
        source = f"{short(item.seconds * 1e3)} ms, {short(each / 1024)} KiB each"
        if probe == "pairs":
            source += f", exponent {item.exponent:.2f}; {count / item.count:,.0f} times what was measured"
        bill.line(what, source, f"{hours(seconds)}, {short(gib)} GiB")
        spent += seconds
        cost += seconds / 3600 * max(CORE_HOUR, gib * GIB_HOUR)
    bill.pay("label, in pods of that memory", hours(spent), cost)


def train(bill: Bill) -> None:
    """One pass over all tokens, measured on a CPU and computed for a GPU."""
    from huesong.config import load_params
    from huesong.model.network import HuesongNetwork, PictureShape

    tokens = at_largest("tokens") / (LARGEST * PIECES) * MUSIC
    bill.line(
        "tokens", f"{tokens / MUSIC:.0f} a piece, as in the sample", f"{tokens / 1e6:,.0f} million, {gb(2 * tokens)}"
    )
    speed = training_speed()
    bill.line("training, one pass, one core", f"params.yaml: {speed:,.0f} tokens a second", hours(tokens / speed))
    share = f"{UTILISATION:.0%} of {GPU_FLOPS / 1e12:.0f} TFLOP/s"
    for settings, picture in MODELS.items():
        params = load_params(ROOT / settings)
        vocabulary = params.preprocess.tokenizer.vocabulary_size
        network = HuesongNetwork(params.train.network, vocabulary, PictureShape.of(picture))
        count = sum(weight.numel() for weight in network.parameters())
        seconds = 6 * count * tokens / (GPU_FLOPS * UTILISATION)
        source = f"**computed**: 6 x {count / 1e6:.1f} M x tokens at {share}"
        bill.line(f"the same on one {GPU}, {settings}", source, hours(seconds))
    bill.pay(
        f"training, {PASSES} passes, {settings}, computed", hours(PASSES * seconds), PASSES * seconds / 3600 * GPU_HOUR
    )


def evaluate(bill: Bill) -> None:
    """The judges and the library of known pieces grow with the music."""
    cpu, mib = by_size("cpu", stage="evaluate"), by_size("mib", stage="evaluate")
    last = cpu[-1][0]
    more = (last - SMALLEST) * PIECES
    seconds, each = (cpu[-1][1] - cpu[0][1]) / more * MUSIC, max(0.0, (mib[-1][1] - mib[0][1]) / more)
    source = f"{short(seconds / MUSIC * 1e3)} ms and {short(each * 1024)} KiB a piece from {SMALLEST}x to {last}x"
    gib = each * MUSIC / 1024
    bill.line("evaluate: judges and library", source, f"{hours(seconds)}, {short(gib)} GiB")
    bill.pay("evaluate", hours(seconds), seconds / 3600 * max(CORE_HOUR, gib * GIB_HOUR))


def at_largest(what: str) -> float:
    """A count of preprocess at the largest size."""
    return value(what, stage="preprocess", size=LARGEST)


def growth(what: str, stage: str) -> float:
    """What a figure of a stage has more at the largest size than at the smallest."""
    few, many = (value(what, stage=stage, size=size) for size in (SMALLEST, LARGEST))
    return many - few


def kept() -> float:
    """Bytes of the features of all pictures."""
    return float(FEATURE_BYTES * PICTURES)


def gb(count: float) -> str:
    """Bytes."""
    return f"{short(count / 1e12)} TB" if count >= 1e12 else f"{short(count / 1e9)} GB"


def hours(seconds: float) -> str:
    """Hours, or minutes below one."""
    return f"{short(seconds / 3600)} h" if seconds >= 3600 else f"{short(seconds / 60)} min"
