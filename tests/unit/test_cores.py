"""workers.cores: a container's share of the processors, in both versions of cgroups."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from huesong.cli.people import doctor
from huesong.runtime.workers import cores


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "wanted"),
    [
        ("0::/\n", {}, 64),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ("0::/pods/one\n", {"sys/fs/cgroup/pods/one/cpu.max": "400000 100000\n"}, 4),
        (
            "0::/pods/one\n",
            {"sys/fs/cgroup/pods/one/cpu.max": "max 100000\n", "sys/fs/cgroup/pods/cpu.max": "300000 100000\n"},
            3,
        ),
        ("0::/of/the/host\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            "5:memory:/x\n4:cpu,cpuacct:/x\n",
            {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "250000", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "4:cpu,cpuacct:/x\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            64,
        ),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "what is this\n"}, 64),
    ],
)
def test_the_quota_of_a_container_counts(
    tmp_path: Path, many: None, cgroup: str, files: dict[str, str], wanted: int
) -> None:
    assert cores(system(tmp_path, cgroup, files)) == wanted


def test_no_more_than_the_process_may_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4}, raising=False)
    assert cores(tmp_path) == 2
    assert cores(system(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": "900000 100000"})) == 2


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (
            {"sys/fs/cgroup/cpu.max": "50000 100000\n", "proc/cpuinfo": "model : old\nflags : fpu sse sse2\n"},
            ["not here .*cores +0.5 of one: .*--cpus 2", "not here .*an old processor", "not here .*train.precision"],
        ),
        (
            {"sys/fs/cgroup/cpu.max": "100000 100000\n", "proc/cpuinfo": "flags : fpu avx2 avx512f avx512_bf16\n"},
            ["not here .*cores +one: ", "ok .*AVX-512, AVX2", "ok .*bfloat16 +AVX-512"],
        ),
        ({"proc/cpuinfo": "Features : fp asimd\n"}, ["ok .*cores +64", "ok .*NEON", "not here .*bfloat16"]),
        ({}, ["ok .*cores +64"]),
    ],
)
def test_doctor_says_what_would_make_it_faster(
    tmp_path: Path, many: None, files: dict[str, str], wanted: list[str]
) -> None:
    said = [str(finding) for finding in doctor.speed(system(tmp_path, "0::/\n", files))]
    assert len(said) == len(wanted)
    for line, pattern in zip(said, wanted, strict=True):
        assert re.match(pattern, line), line
    assert not any(finding.needed for finding in doctor.speed(tmp_path))
