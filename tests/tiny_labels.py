"""Made-up tables whose features carry valence and arousal, for the labellers, the judge and the label stage."""

from pathlib import Path

import numpy as np
import pandas as pd

from huesong import contracts

FEATURES = ("density", "mode", "loudness", "noise")


def music(n: int = 120, seed: int = 0, segments: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """PIECES_TABLE and PIECE_FEATURES of n pieces, two a group; splits in the ratio 3 : 1 : 1 : 1."""
    rng = np.random.default_rng(seed)
    va = rng.uniform(-0.9, 0.9, (n, 2))
    splits = np.array(["train", "train", "train", "val", "judge", "test"])[np.arange(n) // 2 % 6]
    pieces = pd.DataFrame(
        {
            "id": [f"m{i:04d}" for i in range(n)], "path": "x.mid", "group": [f"g{i // 2}" for i in range(n)],
            "valence": va[:, 0], "arousal": va[:, 1], "n_raters": 6.0, "label_kind": "mean_rating", "source": "made-up",
            "licence": "CC0-1.0", "split": splits,
        }
    )  # fmt: skip
    pieces = pieces.loc[np.repeat(np.arange(n), segments)].reset_index(drop=True)
    pieces["piece"] = pieces["id"]
    pieces["id"] = [f"{name}#{i % segments}" for i, name in enumerate(pieces["piece"])]
    pieces["bars_from"] = "file"
    pieces["segment_start_s"] = [32.0 * (i % segments) for i in range(len(pieces))]
    pieces["token_start"], pieces["token_count"] = 10 * np.arange(len(pieces)), 10
    va = np.repeat(va, segments, axis=0)
    error = rng.normal(0, 1, (len(pieces), 4))
    features = pd.DataFrame(
        {
            "id": pieces["id"],
            "density": 5 * va[:, 1] + 0.7 * error[:, 0],
            "mode": np.sign(va[:, 0]) + va[:, 0] + 0.3 * error[:, 1],
            "loudness": 64 + 30 * va[:, 1] + 5 * error[:, 2],
            "noise": error[:, 3],
        }
    )
    return pieces, features


def pictures(n: int = 72, seed: int = 1, pixels: bool = False) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """IMAGES_TABLE, PICTURE_FEATURES and PICTURE_COLOURS; little arousal, as in still pictures."""
    rng = np.random.default_rng(seed)
    va = rng.uniform((-0.9, -0.8), (0.9, 0.4), (n, 2))
    table = pd.DataFrame(
        {
            "id": [f"p{i:04d}" for i in range(n)], "path": "x.jpg", "group": [f"p{i:04d}" for i in range(n)],
            "valence": va[:, 0], "arousal": va[:, 1], "n_raters": 100.0, "label_kind": "mean_rating",
            "source": "made-up", "licence": "CC0-1.0",
            "split": np.array(["train", "train", "train", "val", "test", "train"])[np.arange(n) % 6],
        }
    )  # fmt: skip
    if pixels:
        rows = rng.integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)
    else:
        tokens = rng.normal(0, 0.5, (n, 4, 6))
        tokens[:, :, 0] += va[:, :1]
        rows = tokens.astype(np.float16)
    colours = np.c_[va[:, 1] + rng.normal(0, 0.1, n), va[:, 0] + rng.normal(0, 0.8, n), np.ones(n)].astype(np.float32)
    return table, rows, colours


def unlabel(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """`table` without the labels of `rows` (a mask)."""
    bare = table.copy()
    bare.loc[rows, ["valence", "arousal", "n_raters"]] = np.nan
    bare.loc[rows, "label_kind"] = ""
    return bare


def write_preprocess(
    folder: Path,
    images: pd.DataFrame,
    rows: np.ndarray,
    colours: np.ndarray,
    pieces: pd.DataFrame,
    features: pd.DataFrame,
) -> Path:
    """The artifacts of preprocess that label reads."""
    folder.mkdir(parents=True, exist_ok=True)
    images.to_parquet(folder / contracts.IMAGES_TABLE)
    pieces.to_parquet(folder / contracts.PIECES_TABLE)
    features.to_parquet(folder / contracts.PIECE_FEATURES)
    np.save(folder / contracts.PICTURE_FEATURES, rows)
    np.save(folder / contracts.PICTURE_COLOURS, colours)
    return folder
