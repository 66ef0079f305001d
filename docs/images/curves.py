"""Makes curves.png, the learning curves of docs/results.md.

python docs/images/curves.py artifacts/train
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

SMOOTHED = 25
"""Steps over which the training losses are averaged."""


def main(train: Path) -> None:
    """Draw the critic's loss, the cross-entropy of the generator, and what the rewards did."""
    critic, history = pd.read_csv(train / "critic_history.csv"), pd.read_csv(train / "history.csv")
    supervised = history[history["phase"] != "reinforce"]
    rewarded = history[history["phase"] == "reinforce"]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    left.plot(critic["step"], critic["loss"].rolling(SMOOTHED, min_periods=1).mean(), label="training")
    left.plot(
        *critic.dropna(subset="val_loss")[["step", "val_loss"]].to_numpy().T, "o-", markersize=3, label="validation"
    )
    left.set(title="critic", xlabel="step", ylabel="loss", ylim=(0, None))
    for phase, part in supervised.groupby("phase", sort=False):
        middle.plot(part["step"], part["ce"].rolling(SMOOTHED, min_periods=1).mean(), label=f"{phase}, smoothed labels")
    middle.plot(
        *supervised.dropna(subset="val_loss")[["step", "val_loss"]].to_numpy().T, "o-", markersize=3, label="validation"
    )
    middle.set(title="generator", xlabel="step", ylabel="cross-entropy, nats a token", ylim=(2, 6))
    right.plot(rewarded["step"], rewarded["va"].rolling(10, min_periods=1).mean(), label="error of what is heard")
    right.plot(rewarded["step"], rewarded["kl"], label="nats from the supervised model")
    right.set(title="rewards", xlabel="step", ylim=(0, None))
    for panel in (left, middle, right):
        panel.legend(frameon=False, fontsize=8)
    figure.savefig(Path(__file__).with_name("curves.png"), dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
