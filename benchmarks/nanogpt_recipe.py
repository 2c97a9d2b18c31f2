"""The baseline: nanoGPT's recipe for a CPU, restated in plain PyTorch.

The settings are those of the nanoGPT README ("I only have a macbook"): 4 layers, 4 heads,
128 dimensions, context 64, batch 12, 2,000 iterations, no dropout.
After the last iteration the whole validation part is read once, in disjoint windows.

    python benchmarks/nanogpt_recipe.py tinyshakespeare.txt

Source of the settings: https://github.com/karpathy/nanoGPT (README, "i only have a macbook").
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
ITERATIONS, WARMUP, PEAK, FLOOR = 2000, 100, 1e-3, 1e-4
BETAS, DECAY, CLIP = (0.9, 0.99), 0.1, 1.0


class Block(nn.Module):
    """Pre-norm attention and GELU layers, without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm2 = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, WIDTH))
        widened: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + widened


class GPT(nn.Module):
    """A small GPT-2: learned positions, the input embedding also reads the output."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.norm(x) @ self.tokens.weight.T
        return logits


def learning_rate(iteration: int) -> float:
    """Linear warm-up, then a cosine from the peak to the floor."""
    if iteration < WARMUP:
        return PEAK * (iteration + 1) / (WARMUP + 1)
    part = (iteration - WARMUP) / (ITERATIONS - WARMUP)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * part)) * (PEAK - FLOOR)


@torch.no_grad()
def whole_loss(model: GPT, data: Tensor) -> float:
    """Nats per character over all of the data, in disjoint windows."""
    total = 0.0
    full = (len(data) - 1) // CONTEXT * CONTEXT
    rows = zip(data[:full].view(-1, CONTEXT).split(256), data[1 : full + 1].view(-1, CONTEXT).split(256), strict=True)
    for ids, targets in [*rows, (data[full:-1][None], data[full + 1 :][None])]:
        if targets.numel():
            total += F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum").item()
    return total / (len(data) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="stop early (the schedule stays)")
    args = parser.parse_args()

    text = args.text.read_text(encoding="utf-8")
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    data = torch.tensor([alphabet[character] for character in text])
    cut = int(0.9 * len(data))
    train, validation = data[:cut], data[cut:]

    torch.manual_seed(args.seed)
    model = GPT(len(alphabet))
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for w in weights if w.dim() >= 2], "weight_decay": DECAY},
            {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0},
        ],
        lr=PEAK,
        betas=BETAS,
    )
    begun = time.perf_counter()
    for iteration in range(args.iterations):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(iteration)
        starts = torch.randint(len(train) - CONTEXT, (BATCH, 1))
        window = train[starts + torch.arange(CONTEXT + 1)]
        loss = F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
    trained = time.perf_counter()
    print(
        json.dumps(
            {
                "validation_loss": round(whole_loss(model, validation), 4),
                "train_seconds": round(trained - begun, 2),
                "step_ms": round(1000 * (trained - begun) / args.iterations, 2),
                "parameters": sum(w.numel() for w in weights),
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
