"""What a network makes of the copy test: the loss of a passage's second time over that of its first.

A network that has learnt to copy comes near 0 for exact repeats, one that has not stays near 1 (Olsson et al. 2022,
"In-context learning and induction heads"). `random` shows what copies without any music: nothing but the copying itself
can predict random ids. Losses are in nats a base token, so byte pair encoding does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from huesong.model.copying.passages import KINDS, Row
from huesong.model.precision import full_precision

ROWS_AT_ONCE = 8


@torch.no_grad()
def copy_figures(network: nn.Module, rows: Sequence[Row], device: str | torch.device = "cpu") -> dict[str, float]:
    """The copy test's figures; the network's mode is left as it is, so put it into evaluation mode before.

    Args:
        network: called as `network(ids_BT, picture_tokens_BSD, va_B2, keep_B)`, without picture and request; gives
            logits [B, T, V].
        rows: from `copy_rows`.
        device: where the network is.

    Returns:
        `copy_KIND`: loss of the second time over the first, all distances together; `copy_KIND_D`: with D bars between;
        `copy_first_KIND`: nats a base token the first time; `copy_rows`: how many rows. Nothing for no rows.
    """
    losses_R2 = np.array([pair for begin in range(0, len(rows), ROWS_AT_ONCE) for pair in
                          losses(network, rows[begin : begin + ROWS_AT_ONCE], device)])  # fmt: skip
    figures: dict[str, float] = {}
    for kind in KINDS:
        of_kind = np.array([row.kind == kind for row in rows], dtype=bool)
        if not of_kind.any():
            continue
        first, second = losses_R2[of_kind].sum(axis=0)
        figures[f"copy_{kind}"] = second / first
        figures[f"copy_first_{kind}"] = first / sum(row.base for row in rows if row.kind == kind)
        for distance in sorted({row.distance for row in rows if row.kind == kind}) if kind != "random" else ():
            at = of_kind & np.array([row.distance == distance for row in rows])
            first, second = losses_R2[at].sum(axis=0)
            figures[f"copy_{kind}_{distance}"] = second / first
    if rows:
        figures["copy_rows"] = float(len(rows))
    return {name: float(value) for name, value in figures.items()}


def losses(network: nn.Module, rows: Sequence[Row], device: str | torch.device) -> list[tuple[float, float]]:
    """Of every row the summed loss of the passage's first and of its second time, in nats."""
    ids_BT = np.zeros((len(rows), max(len(row.ids) for row in rows)), dtype=np.int64)  # any id will do as padding
    for index, row in enumerate(rows):
        ids_BT[index, : len(row.ids)] = row.ids
    read: Any = torch.from_numpy(ids_BT).to(device)
    nothing_B2 = torch.zeros(len(rows), 2, device=device)
    logits_BTV = network(read[:, :-1], None, nothing_B2, torch.zeros(len(rows), dtype=torch.bool, device=device))
    loss_BT = nn.functional.cross_entropy(
        full_precision(logits_BTV).transpose(1, 2), read[:, 1:], reduction="none"
    ).cpu().numpy()  # fmt: skip

    def over(index: int, where: slice) -> float:
        return float(loss_BT[index, where.start - 1 : where.stop - 1].sum(dtype=np.float64))

    return [(over(index, row.first), over(index, row.second)) for index, row in enumerate(rows)]
