"""What every artifact of the tiny world holds, as digests and a few numbers: a net under changes that shall change nothing.

    python -m tests.golden --write     # from the checkout's root: keep what this code makes, as tests/golden.json

Renew only on purpose, and say in the commit why the artifacts changed. Without `--write` it prints what differs.

golden.json names artifacts by folder and file, never by module, and holds of each

* `sha256` of its content: values, not containers (columns of a parquet file, pixels of a PNG), so that a library's new
  file version is no change. Durations, versions and ids are left out (LEFT_OUT);
* `summary`: names and counts, which must be equal anywhere, and means and deviations.

Digests hold on one kind of machine, which golden.json describes: on another processor, or with other versions, the last
bits of a sum differ. There the summaries are compared within TOLERANCE. (So are the notes of composed pieces: a last bit
that turns one sampled token would show, but is rare. AVX2 and AVX-512 on one processor sample the same pieces.)

Seen to be the same: in fresh processes, with other hash seeds, under load, on one core and on two.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PLACE = Path(__file__).with_name("golden.json")
SHIPPED = Path(__file__).parent.parent / "models" / "huesong-small"
TOLERANCE = 1e-3
"""Of a number's size, or of a column's mean and deviation together."""
TINIEST = 1e-6
"""What is as small as this is rounding."""

VERSIONS = ("miditok_version", "symusic_version", "hf_tokenizers_version")
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "train/history.csv": ("tokens_per_s",),
    "train/figures.json": ("seconds",),  # how long the training took
    "train/model/config.json": ("files", "huesong"),  # digests of the files, which are read themselves; the version
    "preprocess/tokenizer.json": VERSIONS,
    "train/model/tokenizer.json": VERSIONS,
    "register/registration.json": ("digest", "model_id", "run_id"),  # of the files of MLflow
    **{
        f"compose/{name}.json": ("files", "huesong", "model", "digest")
        for name in ("tiny", "tiny-primed", "shipped", "shipped-asked")
    },
}
"""Artifact -> columns or keys that are not read."""
FEW = 60
"""A JSON file of so many numbers has each of them in its summary."""
CURVES = ("train/history.csv", "train/critic_history.csv")
"""Tables whose numbers are kept one by one."""
FLAGS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "sve", "sve2",
    "bf16", "i8mm",
)  # fmt: skip
PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib", "pillow", "symusic", "miditok", "tokenizers",
    "midirenderer", "great-expectations",
)  # fmt: skip
VARIABLES = (
    "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA",
    "NPY_DISABLE_CPU_FEATURES",
)  # fmt: skip
"""Environment variables that choose instructions."""

Entry = dict[str, Any]


def measure(folders: Mapping[str, Path]) -> dict[str, Entry]:
    """Every file below `folders` (their names in golden.json -> where they are): name -> digest and summary."""
    found = {}
    for top, folder in folders.items():
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = f"{top}/{path.relative_to(folder).as_posix()}"
            found[name] = READERS.get(path.suffix, read_bytes)(path, name)
    return found


def entry(content: Any, summary: Mapping[str, Any]) -> Entry:
    """Of content that is bytes, or anything that JSON can say."""
    return {"sha256": sha256(content), "summary": dict(summary)}


def sha256(content: Any) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(raw).hexdigest()


def spread(values: Any) -> dict[str, Any]:
    """Count, mean and deviation of the finite among numbers."""
    numbers = np.asarray(values, np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return {"n": 0}
    return {"n": len(numbers), "mean": short(numbers.mean()), "deviation": short(numbers.std())}


def short(number: Any) -> float:
    return float(f"{number:.7g}")


def read_bytes(path: Path, name: str) -> Entry:
    return entry(path.read_bytes(), {})


def read_text(path: Path, name: str) -> Entry:
    """Pages and cards without embedded files and the version of huesong; elsewhere without their numbers."""
    text = re.sub(r";base64,[A-Za-z0-9+/=]*", ";base64,", path.read_text(encoding="utf-8"))
    text = re.sub(r"huesong \d+\.\d+\.\d+", "huesong", text)
    return entry(text, {"words": sha256(re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "#", text))})


def read_json(path: Path, name: str) -> Entry:
    value = without(json.loads(path.read_text(encoding="utf-8")), LEFT_OUT.get(name, ()))
    words, numbers = list[Any](), list[float]()
    for key, leaf in leaves(value):
        number = isinstance(leaf, (int, float)) and not isinstance(leaf, bool)
        words.append([key, None if number else leaf])
        if number:
            numbers.append(leaf)
    # arcsinh: a count of tokens must not hide a correlation
    kept = numbers if len(numbers) <= FEW else spread(np.arcsinh(numbers))
    return entry(value, {"words": sha256(words), "numbers": kept})


def without(value: Any, keys: Sequence[str]) -> Any:
    """JSON without these keys, however deep they lie."""
    if isinstance(value, dict):
        return {key: without(inner, keys) for key, inner in value.items() if key not in keys}
    return [without(inner, keys) for inner in value] if isinstance(value, list) else value


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not inner:  # a leaf, or empty
        yield name, value
        return
    for key, part in sorted(inner):
        yield from leaves(part, f"{name}/{key}")


def read_csv(path: Path, name: str) -> Entry:
    with path.open(encoding="utf-8", newline="") as stream:
        head, *rows = list(csv.reader(stream))
    columns = {key: [row[place] for row in rows] for place, key in enumerate(head)}
    columns = {key: cells for key, cells in columns.items() if key not in LEFT_OUT.get(name, ())}
    return entry(list(columns.items()), table_summary(columns, len(rows), each=name in CURVES))


def read_parquet(path: Path, name: str) -> Entry:
    import pandas as pd

    table = pd.read_parquet(path)
    columns = {key: ["" if cell != cell or cell is None else str(cell) for cell in table[key]] for key in table}
    kinds = [table[key].dtype.name if table[key].dtype.kind in "iufb" else "text" for key in table]
    return entry([list(columns.items()), kinds], table_summary(columns, len(table)))


def table_summary(columns: Mapping[str, list[str]], rows: int, each: bool = False) -> dict[str, Any]:
    """Rows, names and texts; of every column of numbers its spread, or each number."""
    numbers = {key: found for key, cells in columns.items() if (found := as_numbers(cells)) is not None}
    texts = [[key, None if key in numbers else cells] for key, cells in columns.items()]
    return {
        "rows": rows,
        "words": sha256(texts),
        "columns": {key: found if each else spread(found) for key, found in numbers.items()},
    }


def as_numbers(cells: Sequence[str]) -> list[float | None] | None:
    """The cells of a column as numbers, an empty one as None; None if it is a column of text or empty."""
    try:
        found = [float(cell) if cell else None for cell in cells]
    except ValueError:
        return None
    return found if any(number is not None for number in found) else None


def read_arrays(path: Path, name: str) -> Entry:
    loaded = np.load(path)
    arrays = {key: loaded[key] for key in loaded} if path.suffix == ".npz" else {"": loaded}
    return arrays_entry(arrays)


def arrays_entry(arrays: Mapping[str, np.ndarray], metadata: Any = None) -> Entry:
    shapes, total, spreads = list[Any](), hashlib.sha256(), {}
    for key, array in sorted(arrays.items()):
        text = array.dtype.kind == "U"
        shapes.append([key, array.dtype.str, array.shape, array.tolist() if text else None])
        total.update(np.ascontiguousarray(array).tobytes())
        if not text:
            spreads[key] = spread(array)
    summary = {"words": sha256([shapes, metadata]), "arrays": spreads}
    return entry([shapes, metadata, total.hexdigest()], summary)


def read_tensors(path: Path, name: str) -> Entry:
    from safetensors import safe_open

    with safe_open(path, "numpy") as stream:
        return arrays_entry({key: stream.get_tensor(key) for key in stream.keys()}, stream.metadata())  # noqa: SIM118


def read_midi(path: Path, name: str) -> Entry:
    from symusic import Score

    score = Score.from_file(path)
    notes = [(note.time, note.duration, note.pitch, note.velocity) for track in score.tracks for note in track.notes]
    parts = dict(zip(("time", "duration", "pitch", "velocity"), zip(*notes, strict=True), strict=True))
    return entry(path.read_bytes(), {key: spread(values) for key, values in parts.items()})


def read_sound(path: Path, name: str) -> Entry:
    with wave.open(str(path)) as sound:
        form, frames = list(sound.getparams()[:4]), sound.readframes(sound.getnframes())
    samples = np.frombuffer(frames, np.int16) if form[1] == 2 else np.frombuffer(frames, np.uint8)
    return entry([form, sha256(frames)], {"form": form, "samples": spread(samples)})


def read_picture(path: Path, name: str) -> Entry:
    from PIL import Image

    with Image.open(path) as picture:
        form, pixels = [picture.mode, *picture.size], np.asarray(picture.convert("RGB"))
    return entry([form, sha256(pixels.tobytes())], {"form": form, "pixels": spread(pixels)})


READERS: dict[str, Callable[[Path, str], Entry]] = {
    ".csv": read_csv,
    ".html": read_text,
    ".jpg": read_picture,
    ".json": read_json,
    ".md": read_text,
    ".mid": read_midi,
    ".npy": read_arrays,
    ".npz": read_arrays,
    ".parquet": read_parquet,
    ".png": read_picture,
    ".safetensors": read_tensors,
    ".txt": read_text,
    ".wav": read_sound,
}


def differences(found: Mapping[str, Entry], kept: Mapping[str, Entry], exact: bool) -> list[str]:
    """One line an artifact that is not as it was kept; `exact`: digests as well as summaries."""
    lines = [f"{name}: is missing" for name in kept if name not in found]
    lines += [f"{name}: is new" for name in found if name not in kept]
    for name in sorted(found.keys() & kept.keys()):
        parts = changes(found[name].get("summary"), kept[name].get("summary"))
        if exact and not parts and found[name].get("sha256") != kept[name].get("sha256"):
            parts = ["the digest, but no summary"]
        if parts:
            lines.append(f"{name}: {'; '.join(parts[:5])}{' ...' if len(parts) > 5 else ''}")
    return lines


def changes(found: Any, kept: Any, name: str = "", size: float = 0.0) -> list[str]:
    """Where two summaries differ: texts and counts at all, other numbers beyond the tolerance."""
    if isinstance(kept, dict) and isinstance(found, dict) and kept.keys() == found.keys():
        size = abs(kept["mean"]) + kept["deviation"] if kept.keys() == {"n", "mean", "deviation"} else 0.0
        return [line for key in kept for line in changes(found[key], kept[key], f"{name}/{key}", size)]
    if isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        pairs = enumerate(zip(found, kept, strict=True))
        return [line for place, (new, old) in pairs for line in changes(new, old, f"{name}/{place}")]
    if isinstance(kept, float) and isinstance(found, (int, float)):
        same = abs(found - kept) <= TOLERANCE * max(abs(kept), size) + TINIEST
    else:
        same = found == kept
    return [] if same else [f"{name.lstrip('/')} {kept!r} -> {found!r}"]


def machine() -> dict[str, Any]:
    """What digests depend on: the processor, its instructions in use, and versions."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = (line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines()) if info.exists() else ()
    cpu = {key.strip(): value.strip() for key, _, value in lines}
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    named = ("vendor_id", "model name", "cpu family", "model", "CPU implementer", "CPU part")
    return {
        "cpu": {key: cpu[key] for key in named if key in cpu} or {"processor": platform.processor()},
        "system": [platform.system(), platform.machine(), platform.python_version()],
        "flags": [flag for flag in FLAGS if flag in flags],
        "torch's instructions": torch.backends.cpu.get_cpu_capability(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }


def compose_pieces(model: Path, out: Path) -> None:
    """Pieces of the tiny model and of the shipped weights for a painted picture; beside each what the console prints."""
    from huesong.compose.composer import compose
    from huesong.data.sample.pictures import paint
    from huesong.model.requests import parse_key, sampling_config

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "painted.png"
        paint(0.6, 0.4, 3).save(picture)
        short = sampling_config(seconds=6.0, candidates=2)
        asked = {"arousal": (-0.5, 0.8), "key": parse_key("F# minor"), "tempo": 96.0, "bars": 4}
        for name, folder_of, options in (
            ("tiny", model, {}),
            ("tiny-primed", model, {"primer": out / "tiny.mid", "config": sampling_config(seconds=12.0, candidates=1)}),
            ("shipped", SHIPPED, {"seed": 1}),
            ("shipped-asked", SHIPPED, asked),
        ):
            made = compose(picture, out / name, folder_of, **{"config": short, **options})
            told = str(made).replace(f"{folder}/", "").replace(f"{out}/", "").replace(str(folder_of), folder_of.name)
            (out / f"{name}.txt").write_text(f"{told}\n", encoding="utf-8")


def found_here(folder: Path) -> dict[str, Entry]:
    """Make the tiny world in `folder` and measure it."""
    from tests import conftest

    finished = conftest.finish(conftest.make_world(conftest.make_data(folder)))
    return measure_finished(finished.folders, finished.world.train / "model", folder / "composed")


def measure_finished(folders: Mapping[str, Path], model: Path, composed: Path) -> dict[str, Entry]:
    """The artifacts of all stages, and pieces that are composed with the model in `composed`."""
    compose_pieces(model, composed)
    return measure({**folders, "compose": composed})


def load() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(PLACE.read_text(encoding="utf-8"))
    return kept


def write(found: Mapping[str, Entry]) -> None:
    """One line an artifact."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(found.items()))
    head = json.dumps(machine(), indent=1).replace("\n", "\n ")
    PLACE.write_text(f'{{\n "machine": {head},\n "artifacts": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


def main() -> int:
    """The command: 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description="Golden artifacts of the tiny world.")
    parser.add_argument("--write", action="store_true", help=f"renew {PLACE.name} (say in the commit why)")
    renew = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        found = found_here(Path(folder))
    kept = load() if PLACE.exists() else {"machine": None, "artifacts": {}}
    exact = renew or kept["machine"] == machine()
    different = differences(found, kept["artifacts"], exact)
    print("\n".join(different) or ("the same" if exact else "the same within the tolerance (another kind of machine)"))
    if renew:
        write(found)
    return 0 if renew else int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
