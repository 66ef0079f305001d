"""Readers of the public sets, each in the layout in which its authors publish it.

Each takes the folder a user has downloaded (and unpacked) and finds its tables at any depth, because archives differ
in how many folders they wrap around the content.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from huesong.contracts import PICTURE_SUFFIXES
from huesong.data.importers.common import (
    MIDI,
    FileIndex,
    Found,
    Item,
    Row,
    all_files,
    find_file,
    game_of_title,
    rows_of,
    safe_name,
    sheet_rows,
    stem_of_theme,
    to_unit,
)
from huesong.data.tables import read_csv
from huesong.runtime.errors import UserError

LICENCES = {
    "oasis": "free for research (see images)",
    "eimg": "none stated: research use only",
    "emopia": "CC BY 4.0 or CC BY-NC-SA 4.0 (sources disagree)",
    "vgmidi": "none stated: research use only",
    "vgmidi_unlabelled": "none stated: research use only",
    "emid": "CC BY-NC-SA 4.0",
}
NOMINAL = 0.5
"""Distance from the axes of the nominal point that stands for a quadrant."""
SIGNS = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1)}
"""Valence and arousal signs of the quadrants, counted as in EMOPIA."""
EIMG_SCALE = (1.0, 9.0)
EIMG_RATERS = 6
EIMG_HEADER_ROWS, EIMG_VALENCE_COLUMN, EIMG_AROUSAL_COLUMN = 2, 19, 20
"""Where the set's own code (Metrics/emotionmatch/dataset.py) finds the mean ratings in the sheet, counted from 0."""


def read_oasis(source: Path) -> Found:
    """OASIS (Kurdi, Lozano and Banaji 2017): `OASIS.csv` and `images/<Theme>.jpg`; means on 1..7.

    Pictures of one theme (`Acorns 1`, `Acorns 2`) share a group.
    """
    table = find_file(source, ("OASIS.csv",), "OASIS.csv and its images folder")
    index = FileIndex(source, PICTURE_SUFFIXES)
    found = Found()
    for row in rows_of(table, ("Theme", "Valence_mean", "Arousal_mean")):
        theme = row["Theme"]
        file = next((hit for suffix in (".jpg", ".jpeg", ".png") if (hit := index.name(theme + suffix))), None)
        if file is None:
            found.skip(theme, "its picture is missing")
            continue
        raters = [n for n in (row.number("Valence_N"), row.number("Arousal_N")) if not math.isnan(n)]
        item = Item(
            "images", f"oasis_{safe_name(theme)}", file, f"oasis_{stem_of_theme(theme)}", "oasis", LICENCES["oasis"]
        )
        item.valence, item.arousal = row.scaled("Valence_mean", 1, 7), row.scaled("Arousal_mean", 1, 7)
        item.n_raters, item.label_kind = min(raters, default=math.nan), "mean_rating"
        found.items.append(item)
    return found


def read_eimg(source: Path) -> Found:
    """EIMG (Wang et al. 2024): `<number>.mid` and a sheet of ratings on 1..9 by six raters.

    The sheet is the authors' `all.xlsx` (two header rows, mean valence and arousal in the 20th and 21st column, clips
    in the order of their numbers), or a CSV with the columns `valence`, `arousal` and `id`, one row a clip or one a
    clip and `rater`. No titles are published, so every clip is a group of its own.
    """
    clips = {int(path.stem): path for path in all_files(source, MIDI) if path.stem.isdigit()}
    if not clips:
        raise UserError(f"{source} holds no MIDI files named by number (0001.mid): unpack the set's dataset.zip there")
    sheets = [path for path in all_files(source, (".xlsx",)) if path.name == "all.xlsx"] or all_files(
        source, (".xlsx",)
    )
    ratings = _eimg_sheet(sheets[0]) if sheets else _eimg_csv(source)
    found = Found()
    for number, (valence, arousal, raters) in sorted(ratings.items()):
        name = f"{number:04d}"
        if number not in clips:
            found.skip(name, "its file is missing")
        elif not all(EIMG_SCALE[0] <= value <= EIMG_SCALE[1] for value in (valence, arousal)):
            found.skip(name, "its ratings are missing or outside 1..9")
        else:
            item = Item("music", f"eimg_{name}", clips[number], f"eimg_{name}", "eimg", LICENCES["eimg"])
            item.valence, item.arousal = to_unit(valence, *EIMG_SCALE), to_unit(arousal, *EIMG_SCALE)
            item.n_raters, item.label_kind = raters, "mean_rating"
            found.items.append(item)
    for number in sorted(set(clips) - set(ratings)):
        found.skip(clips[number].name, "it has no row in the ratings")
    return found


def _eimg_sheet(path: Path) -> dict[int, tuple[float, float, float]]:
    ratings = {}
    for number, cells in enumerate(sheet_rows(path)[EIMG_HEADER_ROWS:], start=1):
        pair = [_number(cells[i]) if i < len(cells) else math.nan for i in (EIMG_VALENCE_COLUMN, EIMG_AROUSAL_COLUMN)]
        ratings[number] = (pair[0], pair[1], float(EIMG_RATERS))
    return ratings


def _eimg_csv(source: Path) -> dict[int, tuple[float, float, float]]:
    for path in all_files(source, (".csv",)):
        lines = read_csv(path)
        if lines and {"id", "valence", "arousal"} <= set(lines[0][1]):
            break
    else:
        raise UserError(f"{source} holds no ratings: put the set's all.xlsx or a CSV (id, valence, arousal) there")
    values: dict[int, list[tuple[float, float]]] = {}
    for line, cells in lines:
        row = Row(path, line, cells)
        digits = re.search(r"(\d+)$", Path(row["id"]).stem)
        if not digits:
            raise row.error(f"id '{row['id']}' does not end with the clip's number")
        pair = row.number("valence"), row.number("arousal")
        if all(EIMG_SCALE[0] <= value <= EIMG_SCALE[1] for value in pair):  # a few ratings of the set are typing errors
            values.setdefault(int(digits.group(1)), []).append(pair)
    single = all(len(pairs) == 1 for pairs in values.values())
    return {
        number: (fmean(v for v, _ in pairs), fmean(a for _, a in pairs), float(EIMG_RATERS if single else len(pairs)))
        for number, pairs in values.items()
    }


def read_emopia(source: Path) -> Found:
    """EMOPIA 1.0 to 2.2 (Hung et al. 2021): `midis/Q<quadrant>_<song>_<clip>.mid` and `label.csv` (ID, 4Q, annotator).

    Only a quadrant is known: the labels are its nominal centre. Clips of one song share a group. Without `label.csv`
    the quadrant is taken from the file name.
    """
    clips = {path.stem: path for path in all_files(source, MIDI) if re.match(r"Q[1-4]_", path.stem)}
    if not clips:
        raise UserError(f"{source} holds no midis/Q1_<song>_<clip>.mid: unpack the EMOPIA archive there")
    found = Found()
    quadrants = {name: int(name[1]) for name in clips}
    tables = [path for path in all_files(source, (".csv",)) if path.name == "label.csv"]
    if tables:
        quadrants = {}
        for row in rows_of(tables[0], ("ID", "4Q")):
            digit = row["4Q"].lstrip("Qq")
            if digit not in ("1", "2", "3", "4"):
                raise row.error(f"4Q '{row['4Q']}' is not a quadrant (1 to 4)")
            quadrants[row["ID"].removesuffix(".mid")] = int(digit)
    for name, quadrant in sorted(quadrants.items()):
        if name not in clips:
            found.skip(name, "its file is missing")
            continue
        song = re.sub(r"^Q[1-4]_|_\d+$", "", name)
        item = Item("music", f"emopia_{safe_name(name)}", clips[name], f"emopia_{song}", "emopia", LICENCES["emopia"])
        item.valence, item.arousal = (NOMINAL * sign for sign in SIGNS[quadrant])
        item.n_raters, item.label_kind = 1, "quadrant"
        found.items.append(item)
    for name in sorted(set(clips) - set(quadrants)):
        found.skip(clips[name].name, "it has no row in label.csv")
    return found


def read_vgmidi(source: Path) -> Found:
    """VGMIDI (Ferreira and Whitehead 2019): `labelled/annotations/*.json`, `labelled/midi/`, `unlabelled/`.

    A piece's label is the mean over bars and raters of the sliders in the annotation files. Without those, the phrases
    of `vgmidi_labelled.csv` are read, of which only the signs are known. Pieces of one game share a group.
    """
    index = FileIndex(source, MIDI)
    annotations = [path for path in all_files(source, (".json",)) if "annotations" in path.parts]
    found = Found()
    for path in annotations:
        _vgmidi_annotations(path, index, found)
    if not annotations:
        table = find_file(source, ("vgmidi_labelled.csv",), "a checkout of the repository (labelled/, unlabelled/)")
        for row in rows_of(table, ("series", "game", "piece", "midi", "valence", "arousal")):
            file = index.path(row["midi"])[0] or index.name(row["midi"])
            if file is None:
                found.skip(row["midi"], "its file is missing")
                continue
            item = _vgmidi_item(file, safe_name(row["series"].lower()))
            item.valence, item.arousal = (NOMINAL * row.scaled(axis, -1, 1) for axis in ("valence", "arousal"))
            item.n_raters, item.label_kind = 30, "quadrant"
            found.items.append(item)
    used = {item.file for item in found.items}
    for file in all_files(source, MIDI):
        if "unlabelled" in file.relative_to(source).parts and file not in used:
            item = _vgmidi_item(file, game_of_title(file.stem))
            item.id, item.source = f"vgmidi_unlabelled_{safe_name(file.stem)}", "vgmidi_unlabelled"
            found.items.append(item)
    return found


def _vgmidi_item(file: Path, game: str) -> Item:
    return Item("music", f"vgmidi_{safe_name(file.stem)}", file, f"vgmidi_{game}", "vgmidi", LICENCES["vgmidi"])


def _vgmidi_annotations(path: Path, index: FileIndex, found: Found) -> None:
    """Add one round: {pieces: {<id>: {midi}}, annotations: {<id>_<rater>: {valence: [], arousal: []}}}."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        pieces = {key: str(piece["midi"]) for key, piece in content["pieces"].items()}
        sliders: dict[str, list[tuple[float, float]]] = {}
        for key, annotation in content["annotations"].items():
            axes = [[float(value) for value in annotation[axis]] for axis in ("valence", "arousal")]
            if all(axes):
                sliders.setdefault(key.split("_")[0], []).append((fmean(axes[0]), fmean(axes[1])))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not an annotation file of VGMIDI ({error!r}): fetch it again") from error
    for key, midi in pieces.items():
        file = index.name(midi)
        if file is None or key not in sliders:
            found.skip(midi, "its file is missing" if file is None else "nobody rated it")
            continue
        item = _vgmidi_item(file, game_of_title(file.stem))
        item.valence, item.arousal = (round(fmean(pair[axis] for pair in sliders[key]), 6) for axis in (0, 1))
        item.n_raters, item.label_kind = len(sliders[key]), "mean_slider"
        if not all(-1 <= value <= 1 for value in (item.valence, item.arousal)):
            raise UserError(f"{path}: the ratings of {midi} lie outside [-1, 1]: fetch the file again")
        found.items.append(item)


def read_emid(source: Path, words: Path | None) -> Found:
    """EMID (Zou et al. 2023): `EMID_data.csv` (Image<n>_filename, Image<n>_tag) and the unpacked pictures.

    Only the pictures are read: the music is audio. Each has one of the eight emotions of Mikels et al. (2005), which
    becomes valence and arousal through `words`: a table of emotion, nrc_valence_norm, nrc_arousal_norm (-1..1) or
    emotion, valence, arousal (0..1, as in the NRC VAD lexicon). A picture tagged differently takes the commonest tag.
    """
    table = find_file(source, ("EMID_data.csv",), "EMID_data.csv and the unpacked pictures")
    emotions = _emotions(source, words)
    index = FileIndex(source, PICTURE_SUFFIXES)
    tags: dict[str, Counter[str]] = {}
    for row in rows_of(table, ("Image1_filename", "Image1_tag")):
        for n in (1, 2, 3):
            name, tag = row[f"Image{n}_filename"], row[f"Image{n}_tag"].lower()
            if name:
                tag = {"sad": "sadness", "angry": "anger", "excited": "excitement"}.get(tag, tag)
                if tag not in emotions:
                    raise row.error(f"Image{n}_tag '{tag}' is not one of {', '.join(sorted(emotions))}")
                tags.setdefault(name, Counter())[tag] += 1
    found = Found()
    for name, counts in sorted(tags.items()):
        file = index.name(name)
        if file is None:
            found.skip(name, "its picture is missing")
            continue
        key = safe_name(Path(name).stem)
        item = Item("images", f"emid_{key}", file, f"emid_{key}", "emid", LICENCES["emid"], label_kind="tag")
        item.valence, item.arousal = emotions[min(counts, key=lambda tag: (-counts[tag], tag))]
        found.items.append(item)
    return found


def _emotions(source: Path, words: Path | None) -> dict[str, tuple[float, float]]:
    """Valence and arousal of every emotion of the table at `words`, or beside or in `source`."""
    places = [words] if words else [p / "words" / "mikels8_va.csv" for p in (source, source.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"no table of the eight Mikels emotions at {' or '.join(map(str, places))}: give one with --words "
            "(CSV with the columns emotion, valence, arousal, the latter 0..1 as in the NRC VAD lexicon)"
        )
    emotions = {}
    for row in rows_of(path, ("emotion",)):
        if row["nrc_valence_norm"]:
            pair = row.scaled("nrc_valence_norm", -1, 1), row.scaled("nrc_arousal_norm", -1, 1)
        else:
            pair = row.scaled("valence", 0, 1), row.scaled("arousal", 0, 1)
        if any(math.isnan(value) for value in pair):
            raise row.error("valence or arousal is missing: the table needs emotion, valence and arousal")
        emotions[row["emotion"].lower()] = pair
    return emotions


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
