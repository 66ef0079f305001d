"""The processes that train together: torchrun starts them, `joined_processes` joins them; alone, there is one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

PATIENCE = timedelta(days=2)
"""How long processes wait for what the first one does alone."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    patient: dist.ProcessGroup | None = None
    """All of them. The default group takes a process that is busy for ten minutes (NCCL) or thirty (gloo) for dead."""

    @property
    def writes(self) -> bool:
        """Only one process writes files and log lines."""
        return self.rank == 0

    def sum(self, figures: dict[str, float], device: torch.device) -> dict[str, float]:
        """Figures summed over the processes, all of which give the same names."""
        if self.world == 1:
            return figures
        total = torch.tensor(list(figures.values()), dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return dict(zip(figures, total.tolist(), strict=True))

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over the processes in one message; parameters a process did not use count as zero."""
        if self.world == 1:
            return
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    @torch.no_grad()
    def give_all(self, module: nn.Module) -> None:
        """Give every process the weights that the writing one has, bit for bit; the others wait for them."""
        if self.patient is None:
            return
        for tensor in module.state_dict().values():
            on_host = tensor.cpu()
            dist.broadcast(on_host, 0, group=self.patient)
            tensor.copy_(on_host)


ALONE = Processes()


@contextlib.contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE in the environment); alone otherwise."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield Processes(dist.get_rank(), world, patient)
        dist.barrier(patient)  # the first one writes, and may learn by rewards before: nobody is gone until it is done
    finally:
        dist.destroy_process_group()
