"""File names, folder names and columns of every artifact, declared once.

Data flows one way: data -> preprocess -> label -> train -> evaluate -> register -> compose.
Every stage reads the folders of the stages before it and writes one folder of its own.
"""

from __future__ import annotations

import re
from typing import Any, Final

STAGES: Final = ("preprocess", "label", "train", "evaluate", "register")
"""Also the names of the functions, params sections, DVC stages, components and artifact folders."""

MODEL_FORMAT: Final = 2
"""Version of the model folder's layout; older ones still load (model.folder), newer ones are refused."""

MODEL_NAME: Final = "huesong"
"""Name in the MLflow model registry."""

# --- raw data: data/ ---------------------------------------------------------------------------
IMAGES_CSV: Final = "images.csv"
MUSIC_CSV: Final = "music.csv"
RAW_COLUMNS: Final = (
    "id", "path", "group", "valence", "arousal", "n_raters", "label_kind", "source", "licence", "split",
)  # fmt: skip
"""`path` is relative to the data folder; valence and arousal are in [-1, 1] or empty."""
BARS: Final = "bars"
"""A column that music.csv may have beside them: where the bars are, as text of metre.bars.BarLines; empty = not known."""

PICTURE_SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif", ".jp2", ".j2k",
    ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif", ".jxl",
)  # fmt: skip
"""What files of the formats of pictures.decode are called."""

LABEL_WEIGHTS: Final = {
    "mean_rating": 1.0,  # mean of several human ratings
    "mean_slider": 1.0,  # mean over raters and time
    "construction": 1.0,  # known by construction (the sample set)
    "quadrant": 0.3,  # only the signs are known; the value is a nominal quadrant centre
    "tag": 0.3,  # an emotion word, mapped through a VA table
    "": 0.0,  # no label
}
"""How far a kind of label is trusted, as a weight in every fit. Its keys are all known kinds."""

LEAST_RATED: Final = (12, 2)
"""From fewer rated items or groups than these nothing is learnt that could be checked."""

UNSTATED_LICENCES: Final = ("", "not stated", "none stated", "unknown")
"""What a `licence` says, before a colon, where a set comes without one."""

SPLITS: Final = ("train", "val", "judge", "test")
"""`judge` groups train only the independent judge; `test` groups are only ever evaluated on.
In raw tables `split` is one of these or empty; preprocess fills it in by group."""

# --- artifacts/preprocess/ ---------------------------------------------------------------------
IMAGES_TABLE: Final = "images.parquet"
"""Kept pictures: RAW_COLUMNS with `split` filled in; row i belongs to row i of the feature arrays."""
PIECES_TABLE: Final = "pieces.parquet"
"""Kept music segments: RAW_COLUMNS (`id` = `<piece>#<k>`) plus `piece`, `segment_start_s`, `seconds`,
`n_notes`, `n_bars`, `token_start`, `token_count`; row i belongs to row i of the two tables below."""
PIECE_FEATURES: Final = "piece_features.parquet"
"""`id` and the hand features of music.features, one column each (for labellers and judges)."""
PIECE_STATISTICS: Final = "piece_statistics.parquet"
"""`id` and the statistics of music.statistics (PR, PE, GC ...), one column each."""
TOKENS: Final = "tokens.npy"
"""uint16, all segments' token ids end to end (no BOS/EOS), memory-mapped through PIECES_TABLE."""
TOKENIZER: Final = "tokenizer.json"
"""MidiTok's own file (base vocabulary and BPE)."""
VOCABULARY: Final = "vocabulary.json"
"""The token grammar's view: each id as a list of base tokens. Needs no MidiTok to read."""
PICTURE_FEATURES: Final = "picture_features.npy"
"""float16 [N, S, C] from a frozen backbone, or uint8 [N, H, W, 3] pixels for the `builtin` CNN."""
PICTURE_COLOURS: Final = "picture_colours.npy"
"""float32 [N, K] colour and texture statistics (pictures.colours)."""
ENCODER: Final = "encoder"
"""Folder: encoder.json (name, kind, shapes) and the weights of a frozen backbone; those of a package it names."""
STUDENT_WEIGHTS: Final = "student.safetensors"
"""In ENCODER, where it is the project's own (pictures.student): weights, and as metadata architecture and figures."""
DROPPED: Final = "dropped.csv"
"""table, id, path, reason of every dropped input."""
DROPPED_COLUMNS: Final = ("table", "id", "path", "reason")
VALIDATION_JSON: Final = "validation.json"
VALIDATION_HTML: Final = "validation.html"
METRICS: Final = "metrics.json"
"""The few figures that people compare (tracking.figures.COMPARED); what `dvc metrics` shows."""
FIGURES: Final = "figures.json"
"""All figures of a stage, flat or nested numbers."""

# --- artifacts/label/ --------------------------------------------------------------------------
IMAGE_LABELS: Final = "image_labels.parquet"
PIECE_LABELS: Final = "piece_labels.parquet"
LABEL_COLUMNS: Final = ("id", "split", "valence", "arousal", "valence_sd", "arousal_sd", "origin", "weight")
"""Every picture / segment once. `origin` is the label_kind, or `predicted`; sd is the uncertainty."""
PAIRS: Final = "pairs.parquet"
PAIR_COLUMNS: Final = ("image_id", "piece_id", "split", "rank", "distance", "valence", "arousal")
"""`valence`, `arousal`: the picture's label after the map into the music's VA distribution."""
PICTURE_CERTAINTY: Final = "picture_certainty.json"
"""How sure a reading of a picture is (emotion.certainty); missing where pictures are pixels or too few are rated."""
PICTURE_NAMES: Final = "rated_pictures.json"
"""Names of the rated pictures that a head in closed form learnt from, in its order; no picture and no rating."""
TRAINING_TABLE: Final = "training.npz"
"""All that training reads of the tables (of preprocess and above), as plain arrays: see label.training_table."""
READER_PREFIX: Final = "reader."
"""Of names in TRAINING_TABLE: buffers of the image encoder, by their name in its state."""
SOURCES: Final = "sources.json"
"""What a model learns from: source, licence, kind of label and number of items, for the model card."""
IMAGE_LABELLER: Final = "image_labeller.npz"
PIECE_LABELLER: Final = "piece_labeller.safetensors"
OLD_PIECE_LABELLER: Final = "piece_labeller.skops"
"""In model folders of huesong 0.1: scikit-learn's objects."""
REPORT: Final = "report.html"
"""Self-contained page (label, evaluate)."""

# --- artifacts/train/ --------------------------------------------------------------------------
MODEL: Final = "model"
"""The model folder: all that compose needs, nothing outside it."""
MODEL_CONFIG: Final = "config.json"
MODEL_WEIGHTS: Final = "model.safetensors"
CRITIC_WEIGHTS: Final = "critic.safetensors"
HISTORY: Final = "history.csv"
CRITIC_HISTORY: Final = "critic_history.csv"

# --- artifacts/evaluate/ -----------------------------------------------------------------------
REQUESTS: Final = "requests.csv"
"""One row a composed piece: what was asked, what the judge heard, its statistics, its file."""
COMPOSED: Final = "music"
SOUNDS: Final = "sound"
LADDER: Final = "ladder.csv"
"""One row a baseline and request it answered: what both judges heard in its piece."""
CALIBRATION: Final = "calibration.csv"
"""One row a request set, judge, axis and level of the request: n, mean heard, low, high."""
PLOTS: Final = "plots"
JUDGE: Final = "judge.safetensors"

# --- artifacts/register/ -----------------------------------------------------------------------
REGISTRATION: Final = "registration.json"
MODEL_CARD: Final = "README.md"
"""Also in a shipped model's folder."""

# --- a served model ------------------------------------------------------------------------------
PIECE: Final[dict[str, Any]] = {
    "bars": 0, "tempo": 0.0, "key": "", "meter": "", "form": "", "chords": "", "style": "", "loop": False,
    "intensity": 1.0, "valence_course": "", "arousal_course": "", "audio": False, "roll": False,
}  # fmt: skip
"""Parameters of a served model, for every piece of a request, beside the sampling settings; the defaults leave all to the
model, as the console does. A course is written as -0.5..0.8 and takes the place of the column. `audio` and `roll`: whether
the answer has them."""
ON_REQUEST: Final = ("wav", "roll")

# --- the registry --------------------------------------------------------------------------------
CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"

SAFE_ID: Final = re.compile(r"[\w.#()+&',!~ -]{1,200}")
"""What an id may look like: it becomes part of file names."""
