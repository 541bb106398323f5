"""The same training and sampling step in PyTorch, for make bench: bench_torch.py SIZE THREADS
prints what build/bench step prints: SIZE THREADS train_ms sample_ms peak_MB."""
import math
import os
import resource
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", sys.argv[2])
import torch
from torch import nn
from torch.nn import functional as F

SIZES = {"everyday": (64, 12, 128, 4, 4, 165), "medium": (64, 32, 256, 6, 8, 2000), "large": (64, 64, 768, 12, 12, 10000)}
B, N, C, L, H, V = SIZES[sys.argv[1]] if sys.argv[1] in SIZES else map(int, sys.argv[1].split(","))
D = TIME = 128
T = 2000
torch.set_num_threads(int(sys.argv[2]))
torch.manual_seed(1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)
        self.ln1, self.ln2 = nn.LayerNorm(C, 1e-12), nn.LayerNorm(C, 1e-12)

    def forward(self, h):
        q, k, v = self.qkv(h).view(-1, N, 3, H, C // H).permute(2, 0, 3, 1, 4)
        att = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(C // H), -1)
        h = self.ln1(h + self.out((att @ v).transpose(1, 2).reshape(-1, N, C)))
        return self.ln2(h + self.down(F.gelu(self.up(h))))


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions, self.bias = nn.Embedding(V, D), nn.Embedding(N, C), nn.Parameter(torch.zeros(V))
        self.time = nn.Sequential(nn.Linear(TIME, 4 * TIME), nn.SiLU(), nn.Linear(4 * TIME, C))
        self.up = nn.Sequential(nn.Linear(D, C), nn.Tanh(), nn.Linear(C, C))
        self.down = nn.Sequential(nn.Linear(C, C), nn.Tanh(), nn.Linear(C, D))
        self.ln, self.layers = nn.LayerNorm(C, 1e-12), nn.Sequential(*[Layer() for _ in range(L)])

    def forward(self, x_t, t):
        frequencies = torch.exp(-math.log(10000) * torch.arange(TIME // 2) / (TIME // 2))
        angles = t.float()[:, None] * (1000 / T) * frequencies
        time_emb = self.time(torch.cat([torch.cos(angles), torch.sin(angles)], -1))
        return self.down(self.layers(self.ln(self.up(x_t) + self.positions.weight + time_emb[:, None])))


model = Denoiser()
ema = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
alpha_bar = 1 - torch.sqrt(torch.linspace(0, 0.999, T + 1) + 1e-4)
abar = alpha_bar[1:] / alpha_bar[0]


def training_step():
    ids, t = torch.randint(V, (B, N)), torch.randint(T, (B,))
    emb = model.words(ids)
    x_start = emb + torch.sqrt(1 - abar[0]) * torch.randn(B, N, D)
    a = abar[t][:, None, None]
    out = model(torch.sqrt(a) * x_start + torch.sqrt(1 - a) * torch.randn(B, N, D), t)
    target = torch.where(t[:, None, None] == 0, emb, x_start)
    nll = F.cross_entropy((x_start @ model.words.weight.T + model.bias).view(-1, V), ids.view(-1))
    loss = ((target - out) ** 2).mean() + nll + (abar[-1] * x_start**2).mean()
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    torch._foreach_mul_(ema, 0.999)
    torch._foreach_add_(ema, [p.detach() for p in model.parameters()], alpha=0.001)


@torch.no_grad()
def sampling_step():
    global x
    x_start = model(x, torch.full((B,), T - 1))
    x = 0.01 * x_start + 0.99 * x + 0.1 * torch.randn(B, N, D)


x = torch.randn(B, N, D)


def seconds(step):
    start, calls = time.perf_counter(), 0
    while calls == 0 or (C <= 512 and time.perf_counter() - start < 0.4):
        step()
        calls += 1
    return (time.perf_counter() - start) / calls


training_step()
repeat = 2 if C > 512 else 5
runs = [(seconds(training_step), seconds(sampling_step)) for _ in range(repeat)]
train, sample = (1e3 * statistics.median(r) for r in zip(*runs))
print(sys.argv[1], sys.argv[2], f"{train:.3f} {sample:.3f}", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
