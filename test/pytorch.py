"""pytorch.py - the network and the loss once more, in plain PyTorch, from a checkpoint alone.

Called by test/run.sh as "pytorch.py FOLDER": trains a small model by each recipe, rebuilds it here,
and compares output, every term of the loss and every gradient with ours on the numbers that
./sample --probe prints. Then the other way: weights that PyTorch has saved go into ./train --init.
The last line is "N passed, N failed, N skipped".

It is meant to be read, too: rebuild() and losses() are what another implementation needs."""
import json
import math
import os
import subprocess
import sys

import torch
from torch import nn

torch.set_num_threads(1)
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}

# ---- safetensors: 8 bytes of length, a JSON header, the numbers ------------------------------------


def read(path):
    """The tensors of a file, by name, and its metadata."""
    data = open(path, "rb").read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        numbers = torch.frombuffer(bytearray(data[8 + size + begin:8 + size + end]),
                                   dtype=DTYPES[entry["dtype"]])
        tensors[name] = numbers.reshape(entry["shape"]).double()
    return tensors, metadata


def write(path, tensors, dtype="F32", metadata=None):
    header, body, size = {"__metadata__": metadata} if metadata else {}, [], 0
    for name, x in tensors.items():
        kind = "I64" if x.dtype == torch.int64 else dtype
        x = x.detach() if kind == "I64" else x.detach().to(DTYPES[dtype])
        numbers = x.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if x.dim() else b""
        header[name] = {"dtype": kind, "shape": list(x.shape),
                        "data_offsets": [size, size + len(numbers)]}
        body.append(numbers)
        size += len(numbers)
    text = json.dumps(header).encode()
    open(path, "wb").write(b"".join([len(text).to_bytes(8, "little"), text] + body))


# ---- the network -----------------------------------------------------------------------------------


def with_neighbours(x):
    """(B,H,N,width): a quarter of each head from the position before, the next from the one behind."""
    quarter = x.shape[3] // 4
    before, behind, own = x[..., :quarter], x[..., quarter:2 * quarter], x[..., 2 * quarter:]
    before = nn.functional.pad(before, (0, 0, 1, -1))  # a 0 in front, and the last one cut
    behind = nn.functional.pad(behind, (0, 0, -1, 1))
    return torch.cat([before, behind, own], 3)


class Layer(nn.Module):
    """A layer of BERT: the LayerNorm comes behind each sum."""

    def __init__(self, C, F, heads, neighbours):
        super().__init__()
        self.heads, self.neighbours = heads, neighbours
        part = lambda **parts: nn.ModuleDict(parts)
        self.attention = part(
            self=part(query=nn.Linear(C, C), key=nn.Linear(C, C), value=nn.Linear(C, C)),
            output=part(dense=nn.Linear(C, C), LayerNorm=nn.LayerNorm(C, eps=1e-12)))
        self.intermediate = part(dense=nn.Linear(C, F))
        self.output = part(dense=nn.Linear(F, C), LayerNorm=nn.LayerNorm(C, eps=1e-12))

    def forward(self, h):
        B, N, C = h.shape
        of, out = self.attention["self"], self.attention["output"]
        q, k, v = (of[name](h).reshape(B, N, self.heads, -1).transpose(1, 2)
                   for name in ("query", "key", "value"))
        if self.neighbours:
            k, v = with_neighbours(k), with_neighbours(v)
        scores = q @ k.transpose(2, 3) / math.sqrt(C // self.heads)
        context = (scores.softmax(3) @ v).transpose(1, 2).reshape(B, N, C)
        h = out["LayerNorm"](h + out["dense"](context))
        ffn = self.output["dense"](nn.functional.gelu(self.intermediate["dense"](h)))
        return self.output["LayerNorm"](h + ffn)


class Denoiser(nn.Module):
    def __init__(self, words, positions, D, C, F, layers, heads, time_dim, twice, emb_norm,
                 neighbours):
        super().__init__()
        self.time_dim, self.twice, self.emb_norm = time_dim, twice, emb_norm
        self.word_embedding = nn.Embedding(words, D)
        self.lm_head = nn.Linear(D, words)
        self.lm_head.weight = self.word_embedding.weight  # tied
        self.time_embed = nn.Sequential(
            nn.Linear(time_dim, 4 * time_dim), nn.SiLU(), nn.Linear(4 * time_dim, C))
        self.input_up_proj = nn.Sequential(
            nn.Linear(2 * D if twice else D, C), nn.Tanh(), nn.Linear(C, C))
        self.position_embeddings = nn.Embedding(positions, C)
        self.LayerNorm = nn.LayerNorm(C, eps=1e-12)
        self.input_transformers = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(C, F, heads, neighbours) for _ in range(layers))})
        self.output_down_proj = nn.Sequential(nn.Linear(C, C), nn.Tanh(), nn.Linear(C, D))

    def embeddings(self):
        """The table as everything reads it: rows of norm emb_norm, 0: as they are stored."""
        table = self.word_embedding.weight
        return self.emb_norm * table / table.norm(dim=1, keepdim=True) if self.emb_norm else table

    def forward(self, x_t, timesteps, estimate):
        half = self.time_dim // 2
        angles = timesteps[:, None] * torch.exp(-math.log(10000) * torch.arange(half).double() / half)
        time = torch.cat([angles.cos(), angles.sin()], 1)
        time = nn.functional.pad(time, (0, self.time_dim % 2))
        x = torch.cat([x_t, estimate], 2) if self.twice else x_t
        h = self.input_up_proj(x) + self.time_embed(time)[:, None]
        h = self.LayerNorm(h + self.position_embeddings.weight[:x.shape[1]])
        for layer in self.input_transformers["layer"]:
            h = layer(h)
        return self.output_down_proj(h)


def rebuild(tensors, metadata):
    """The network of a checkpoint, with its averaged weights, in double precision."""
    number = lambda key: int(metadata[key])
    words = len(json.loads(metadata["tokenizer"])["model"]["vocab"])
    model = Denoiser(words, number("max-positions"), number("emb-dim"), number("hidden"),
                     number("ffn"), number("layers"), number("heads"), number("time-dim"),
                     metadata["self-conditioning"] == "on", float(metadata["emb-norm"]),
                     metadata["neighbours"] == "on").double()
    ours = {name: x for name, x in tensors.items()
            if not name.startswith(("raw.", "adam_m.", "adam_v.", "length", "loss_history"))}
    model.load_state_dict({**ours, "lm_head.weight": ours["word_embedding.weight"]})
    return model


# ---- the loss --------------------------------------------------------------------------------------


def alphas_cumprod(T):
    """The schedule `sqrt`."""
    left = lambda share: max(1 - math.sqrt(share + 0.0001), 1e-5 * (1 - share))
    betas = [min(1 - left((t + 1) / T) / left(t / T), 0.999) for t in range(T)]
    return torch.tensor([1 - beta for beta in betas]).double().cumprod(0)


def losses(model, metadata, ids, t, noise_x0, noise_t):
    """Everything that ./sample --probe prints, by the same names; the terms are (B)."""
    T, predict, table = int(metadata["diffusion-steps"]), metadata["predict"], model.embeddings()
    alphas, logits = alphas_cumprod(T), lambda x: x @ table.T + model.lm_head.bias
    a = alphas[t][:, None, None]
    mean = lambda x: x.flatten(1).mean(1)
    nll = lambda x: nn.functional.cross_entropy(x.transpose(1, 2), ids, reduction="none").mean(1)

    embedded = table[ids]
    x_start = embedded + (1 - alphas[0]).sqrt() * noise_x0
    x_t = a.sqrt() * x_start + (1 - a).sqrt() * noise_t
    timesteps = t * 1000.0 / T

    def guess_of(output):
        if predict == "softmax":
            return logits(output).softmax(2) @ table
        return output if predict == "x-start" else (x_t - (1 - a).sqrt() * output) / a.sqrt()

    estimate = torch.zeros_like(x_t)
    if model.twice:
        with torch.no_grad():
            estimate = guess_of(model(x_t, timesteps, estimate))
    output = model(x_t, timesteps, estimate)
    guess = guess_of(output)
    first = t[:, None, None] == 0  # where the target is the embedding without noise
    mse = mean((torch.where(first, embedded, x_start) - guess) ** 2)
    if predict == "epsilon":
        mse = torch.where(t == 0, mse, mean((noise_t - output) ** 2))
    decoder_nll, tT_loss = nll(logits(x_start)), mean(alphas[-1] * x_start ** 2)
    head_nll = nll(logits(output)) if predict == "softmax" else torch.zeros_like(mse)
    return dict(x_start=x_start, x_t=x_t, timesteps=timesteps, estimate=estimate, output=output,
                guess=guess, mse=mse, decoder_nll=decoder_nll, tT_loss=tT_loss, head_nll=head_nll,
                loss=mse + decoder_nll + tT_loss + head_nll)


# ---- the comparison --------------------------------------------------------------------------------

passed = failed = 0


def check(what, right):
    global passed, failed
    passed, failed = passed + bool(right), failed + (not right)
    if not right:
        print("FAIL", what)


def agree(what, ours, theirs, within, scale=0.0):
    """Numbers agree within so much of the largest of them, or of scale."""
    theirs = theirs.detach().flatten()
    ours = torch.as_tensor(ours, dtype=torch.float64).flatten()
    if ours.shape != theirs.shape:
        return check(f"{what}: {len(ours)} numbers, expected {len(theirs)}", False)
    error = (ours - theirs).abs().max().item()
    allowed = within * max(theirs.abs().max().item(), scale)
    check(f"{what}: an error of {error:.3g}, allowed {allowed:.3g}", error <= allowed)


def run(*command):
    if command[0] == "./train":
        command += "--overwrite",
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}", done.returncode == 0)
    return done.stdout


SHAPE = ("--hidden 16 --layers 2 --heads 2 --ffn 24 --emb-dim 10 --time-dim 7 --batch 8 --warmup 5 "
         "--diffusion-steps 50 --lr 0.005").split()
WITHIN = 1e-5  # of ./sample --probe, in single precision
GRADIENT_WITHIN = 1e-6  # of build/double-peek: where the noise is predicted, rounding grows a thousandfold


def from_here(folder, text, name, *options):
    """A checkpoint of ours, rebuilt."""
    path = f"{folder}/{name}.safetensors"
    run("./train", text, *SHAPE, *options, "--steps", "60", "--out", path)
    printed = run("./sample", path, "--probe", "the red fig is hot.")
    with open(f"{folder}/probe.json", "w") as out:
        out.write(printed)
    tensors, metadata = read(path)
    model, probe = rebuild(tensors, metadata), json.loads(printed)
    B, N, D = probe["B"], probe["N"], probe["D"]
    points = lambda key: torch.tensor(probe[key]).double().reshape(B, N, D)
    theirs = losses(model, metadata, torch.tensor(probe["ids"]).reshape(B, N),
                    torch.tensor(probe["t"]), points("noise_x0"), points("noise_t"))
    for key in theirs:
        if key != "estimate" or model.twice:
            agree(f"{name}: {key}", probe[key], theirs[key], WITHIN)
    theirs["loss"].mean().backward()
    weights = dict(model.named_parameters())
    largest = max(x.grad.abs().max().item() for x in weights.values())
    for line in run("build/double-peek", "gradients", path, f"{folder}/probe.json").splitlines():
        tensor, *numbers = line.split()
        # key.bias has next to no gradient, as softmax does not see it: there all may be rounding
        scale = largest if tensor.endswith("key.bias") else 0
        agree(f"{name}: gradient of {tensor}", [float(x) for x in numbers], weights[tensor].grad,
              GRADIENT_WITHIN, scale)


def from_bert(folder, text):
    """All combinations of the three options on a small file with BERT's names, some of them old."""
    words, positions, C, F, layers = 163, 24, 16, 32, 3
    assert words == read(f"{folder}/original.safetensors")[0]["lm_head.bias"].numel()
    numbers = torch.Generator().manual_seed(1)
    bert = {}
    add = lambda name, *shape: bert.update({"bert." + name: torch.randn(shape, generator=numbers)})
    add("embeddings.word_embeddings.weight", words, C)
    add("embeddings.position_embeddings.weight", positions, C)
    add("embeddings.token_type_embeddings.weight", 2, C)
    for end in "gamma", "beta":
        add("embeddings.LayerNorm." + end, C)
    for layer in (f"encoder.layer.{i}." for i in range(layers)):
        for name, *shape in (("attention.self.query", C, C), ("attention.self.key", C, C),
                             ("attention.self.value", C, C), ("attention.output.dense", C, C),
                             ("intermediate.dense", F, C), ("output.dense", C, F)):
            add(layer + name + ".weight", *shape)
            add(layer + name + ".bias", shape[0])
        for end in "gamma", "beta":
            add(layer + "attention.output.LayerNorm." + end, C)
            add(layer + "output.LayerNorm." + end, C)
    add("pooler.dense.weight", C, C)
    bert["cls.predictions.bias"] = torch.zeros(words)

    def theirs(name):
        for here, there in (("word_embedding.", "embeddings.word_embeddings."),
                            ("position_embeddings.", "embeddings.position_embeddings."),
                            ("input_transformers.", "encoder."), ("LayerNorm.weight", "LayerNorm.gamma"),
                            ("LayerNorm.bias", "LayerNorm.beta")):
            name = name.replace(here, there)
        return "bert." + name

    write(f"{folder}/bert.safetensors", bert)
    for layers_too in False, True:
        for embeddings in False, True:
            for frozen in False, True:
                options = ["--init-pretrained"] * layers_too + ["--freeze-embeddings"] * frozen
                options += ["--use-pretrained-embeddings"] * embeddings
                name = "bert" if layers_too or embeddings else None
                options += ["--heads", "4"] if name else SHAPE
                begun = weights_of(folder, text, name, *options)
                init = ["--init", f"{folder}/bert.safetensors"] if name else []
                taken = {name for name in begun if theirs(name) in bert and (
                    layers_too and name.startswith("input_tr") or
                    embeddings and name.startswith(("word_e", "position_e")))}
                check(f"{options}: {len(taken)} tensors", len(taken) == 48 * layers_too + 2 * embeddings)
                for name in taken:
                    agree(f"{options}: {name}", begun[name], bert[theirs(name)].double(), 1e-6)
                check(f"{options}: projections", ("input_up_proj.0.weight" in begun) != embeddings)
                for name in "word_embedding.weight", "position_embeddings.weight":
                    run("./train", text, *init, *options, "--steps", "3", "--batch", "8",
                        "--out", f"{folder}/learnt.safetensors")
                    learnt, metadata = read(f"{folder}/learnt.safetensors")
                    moved = learnt["raw." + name] != begun[name]
                    check(f"{options}: {name} moves or not", (moved.double().mean() > 0.9) != frozen)
                check(f"{options}: neighbours", (metadata["neighbours"] == "on") != layers_too)
    run("./sample", f"{folder}/learnt.safetensors", "-n", "2", "--steps", "5")
    # without "bert." in front, and with new names
    new = {name[5:].replace("gamma", "weight").replace("beta", "bias"): x for name, x in bert.items()
           if name.startswith("bert.")}
    write(f"{folder}/new.safetensors", new)
    everything = "--heads", "4", "--init-pretrained", "--use-pretrained-embeddings"
    old = weights_of(folder, text, "bert", *everything)
    for name, x in weights_of(folder, text, "new", *everything).items():
        agree(f"BERT, other names: {name}", x, old[name], 0)
    done = subprocess.run(["./train", text, "--init", f"{folder}/bert.safetensors", "--heads", "4"],
                          stderr=subprocess.PIPE, text=True)
    check("which part of BERT", "expected --init-pretrained" in done.stderr and done.returncode == 1)
    done = subprocess.run(["./train", text, "--init", f"{folder}/there.safetensors", "--init-pretrained"],
                          stderr=subprocess.PIPE, text=True)
    check("a part of what is no BERT", "no BERT" in done.stderr and done.returncode == 1)


def lines_of_the_readme(folder):
    """README's lines that read a checkpoint with numpy give the table that the network reads."""
    lines = open("README.md").read().split("```python\n")[1].split("```")[0]
    there = {"print": lambda *words: None}
    exec(lines.replace("simple.safetensors", f"{folder}/best.safetensors"), there)
    table = rebuild(*read(f"{folder}/best.safetensors")).embeddings()
    agree("README: embeddings", there["e"].astype("f8"), table, WITHIN)


def weights_of(folder, text, name, *options):
    """The weights with which ./train begins: it makes one step of next to no length."""
    path = f"{folder}/begun.safetensors"
    init = ["--init", f"{folder}/{name}.safetensors"] if name else []
    run("./train", text, *init, *options, "--steps", "1", "--lr", "1e-9", "--weight-decay", "0",
        "--batch", "8", "--out", path)
    return {name[4:]: x for name, x in read(path)[0].items() if name.startswith("raw.")}


def refused(folder, text, what, tensors, message):
    """./train --init does not take these, and says why."""
    write(f"{folder}/bad.safetensors", tensors)
    done = subprocess.run(["./train", text, "--init", f"{folder}/bad.safetensors", "--steps", "1",
                           "--heads", "2", "--out", f"{folder}/none.safetensors"],
                          stderr=subprocess.PIPE, text=True)
    said = done.stderr.strip().splitlines()[-1]
    check(f"{what}: {said}", done.returncode == 1 and message in said)
    check(f"{what}: a checkpoint was written", not os.path.exists(f"{folder}/none.safetensors"))


def from_there(folder, text):
    """Weights that PyTorch has saved, with all that a state_dict has, go into ./train --init."""
    tensors, metadata = read(f"{folder}/original.safetensors")
    model = rebuild(tensors, metadata)
    state = {**model.state_dict(), "position_ids": torch.arange(11)[None]}
    for dtype in "F32", "F64", "F16", "BF16":
        write(f"{folder}/there.safetensors", {"model." + name: x for name, x in state.items()}, dtype)
        for name, x in weights_of(folder, text, "there", "--heads", "2").items():
            agree(f"{dtype}: {name}", x, state[name].to(DTYPES[dtype]).double(), 1e-6)
    refused(folder, text, "another shape", {**state, "LayerNorm.bias": torch.zeros(3)},
            "'LayerNorm.bias' has shape [3], expected [16]")
    refused(folder, text, "another vocabulary",
            {**state, "word_embedding.weight": state["word_embedding.weight"][:9]},
            "has 9 words, the vocabulary 163; expected the --tokenizer")
    refused(folder, text, "missing", {n: x for n, x in state.items() if n != "lm_head.bias"},
            "no tensor 'lm_head.bias'")
    refused(folder, text, "unexpected", {**state, "extra": torch.zeros(3)},
            "tensor 'extra' has no place")
    refused(folder, text, "untied", {**state, "lm_head.weight": state["lm_head.weight"] + 1},
            "is not 'word_embedding.weight'")
    refused(folder, text, "whole numbers", {**state, "LayerNorm.bias": torch.arange(16)},
            "tensor 'LayerNorm.bias' is I64, expected F32")
    refused(folder, text, "not finite", {**state, "LayerNorm.bias": state["LayerNorm.bias"] / 0},
            "'LayerNorm.bias' holds a number that is not finite")

    # the heads are also found in a config.json; without it and --heads there is no silent default
    write(f"{folder}/there.safetensors", state)
    done = subprocess.run(["./train", text, "--init", f"{folder}/there.safetensors"],
                          stderr=subprocess.PIPE, text=True)
    check("heads by default", done.returncode == 1 and "expected --heads" in done.stderr)
    with open(f"{folder}/config.json", "w") as out:
        out.write('{"num_attention_heads": 2}')
    weights_of(folder, text, "there")
    check("heads of the config.json", read(f"{folder}/begun.safetensors")[1]["heads"] == "2")

    # with our metadata kept, ./sample takes it, too
    samples = run("./sample", f"{folder}/original.safetensors", "-n", "5", "--steps", "5")
    kept = {n: x for n, x in tensors.items() if not n.startswith(("raw.", "adam_"))}
    del metadata["checksum"]  # of all tensors that there were
    write(f"{folder}/there.safetensors", kept, metadata=metadata)
    check("./sample of a file that Python wrote",
          run("./sample", f"{folder}/there.safetensors", "-n", "5", "--steps", "5") == samples)


if __name__ == "__main__":
    folder, text = sys.argv[1], f"{sys.argv[1]}/text.txt"
    with open(text, "w") as out:
        out.writelines(open("data/simple-train.txt").readlines()[:300])
    from_here(folder, text, "best", "--recipe", "best")
    from_here(folder, text, "templates", "--recipe", "templates")
    from_here(folder, text, "original", "--recipe", "original")
    from_here(folder, text, "noise", "--predict", "epsilon", "--self-conditioning", "on")
    from_there(folder, text)
    from_bert(folder, text)
    lines_of_the_readme(folder)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)
