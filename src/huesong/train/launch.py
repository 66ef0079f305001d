"""Training in several processes of a machine, one for each GPU or as many as asked: torchrun around the train stage.

Tracking and the mirror of the checkpoints stay with the process that calls `train`; the ones it starts only compute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from huesong import contracts
from huesong.config import TrainConfig
from huesong.runtime.errors import SAID, UserError
from huesong.runtime.files import read_json
from huesong.runtime.progress import log
from huesong.runtime.signals import child
from huesong.train import stage


def train(config: TrainConfig, *, preprocess: Path, label: Path, out: Path, checkpoints: Path) -> stage.TrainReport:
    """Run the train stage: here, or in several processes that share every batch. Arguments are its own.

    Args:
        config: the `train` section of params.yaml.
        preprocess: artifacts of the preprocess stage.
        label: artifacts of the label stage.
        out: folder for the artifacts of this stage; replaced as a whole.
        checkpoints: where a killed run leaves what the next one resumes from.

    Raises:
        UserError: as the stage; with several processes also one that died.
    """
    processes = processes_of(config)
    if processes == 1:
        return stage.run(config, preprocess=preprocess, label=label, out=out, checkpoints=checkpoints)
    log.info("training in %d processes", processes)
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        params.write_text(yaml.safe_dump({"train": config.model_dump(mode="json")}), encoding="utf-8")
        folders = {
            "params": params, "preprocess": preprocess, "label": label, "out": out, "checkpoints": checkpoints,
        }  # fmt: skip
        torchrun(processes, [word for name, path in folders.items() for word in (f"--{name}", str(path))])
    metrics = read_json(out / contracts.FIGURES, "huesong train")
    return stage.TrainReport(out, metrics)


def processes_of(config: TrainConfig) -> int:
    """How many to start: as many as the settings say, else one for each CUDA device that PyTorch sees; at least 1.

    1 in a process that torchrun started: it is one of them.

    Raises:
        UserError: more processes than devices.
    """
    if "WORLD_SIZE" in os.environ:
        return 1
    devices = 0 if config.device == "cpu" else torch.cuda.device_count()
    if devices and config.processes > devices:
        raise UserError(
            f"train.processes = {config.processes}, and PyTorch sees {devices} CUDA device(s): set it to 0 for one process "
            "each, or train.device to cpu"
        )
    return config.processes or max(1, devices)


def torchrun(processes: int, words: list[str]) -> None:
    """Run the train stage by its bare entry in several processes of this machine; their log goes to standard error.

    Raises:
        UserError: one of them failed; the message is the one it gave, where it gave one.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", str(processes), "-m", "huesong.train", *words]
    # torchrun sets one thread, too, but with a warning; the stage sets its own number.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    reason = ""
    with child(command, env=environment, stderr=subprocess.PIPE) as process:  # torchrun ends those it started
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            if line.startswith(SAID):
                reason = reason or line.removeprefix(SAID).strip()
        code = process.wait()
    if code:
        raise UserError(reason or f"training in {processes} processes ended with exit code {code}: see the log above")
