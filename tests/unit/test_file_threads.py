"""runtime/files.py with many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huesong.runtime.files import replacing_file


def test_many_threads_write_into_one_folder(tmp_path: Path) -> None:
    """Each sweeps the folder first, and must not take what another is about to lock."""

    def write(number: int) -> None:
        with replacing_file(tmp_path / f"{number}.txt") as part:
            part.write_text(str(number))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(300)))
    assert sorted(int(path.read_text()) for path in tmp_path.iterdir()) == list(range(300))
