"""One training step of ternary Qwen3 in PyTorch, in its best form: what tbc is compared with.

    peer_torch.py CONFIG.json --batch B --seq S [--threads T] [--compile] [--bf16]

Fused scaled-dot-product attention, fused AdamW, ternary weights through a straight-through estimator.
Prints the seconds of the best of three steps after one that is not counted.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F


def ste(w, group):
    rows = w.view(-1, group)
    s = rows.abs().mean(-1, keepdim=True).half().to(w.dtype)
    q = (rows / s.clamp_min(1e-12)).round().clamp(-1, 1) * s
    return w + (q.view_as(w) - w).detach()


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Qwen3(torch.nn.Module):
    def __init__(self, c, group=128):
        super().__init__()
        self.c, self.group = c, group
        h, f, d = c["hidden_size"], c["intermediate_size"], c["head_dim"]
        q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
        new = lambda *shape: torch.nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5)
        one = lambda n: torch.nn.Parameter(torch.ones(n))
        self.embed, self.norm = new(c["vocab_size"], h), one(h)
        self.layers = torch.nn.ModuleList(
            torch.nn.ParameterDict(dict(
                n1=one(h), n2=one(h), qn=one(d), kn=one(d), q=new(q, h), k=new(kv, h), v=new(kv, h), o=new(h, q),
                gate=new(f, h), up=new(f, h), down=new(h, f)))
            for _ in range(c["num_hidden_layers"]))

    def forward(self, tokens, targets):
        c, g = self.c, self.group
        B, S = tokens.shape
        D, eps = c["head_dim"], c["rms_norm_eps"]
        angle = torch.outer(torch.arange(S), c["rope_theta"] ** (-torch.arange(0, D, 2) / D)).repeat(1, 2)
        cos, sin = angle.cos(), angle.sin()
        embed = ste(self.embed, g)
        norm = lambda x, w: F.rms_norm(x, w.shape, w, eps)
        heads = lambda x: x.view(B, S, -1, D)
        x = F.embedding(tokens, embed)
        for l in self.layers:
            lin = lambda x, name: F.linear(x, ste(l[name], g))
            h = norm(x, l["n1"])
            q = rope(norm(heads(lin(h, "q")), l["qn"]).transpose(1, 2), cos, sin)
            k = rope(norm(heads(lin(h, "k")), l["kn"]).transpose(1, 2), cos, sin)
            v = heads(lin(h, "v")).transpose(1, 2)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + lin(a.transpose(1, 2).reshape(B, S, -1), "o")
            h = norm(x, l["n2"])
            x = x + lin(F.silu(lin(h, "gate")) * lin(h, "up"), "down")
        z = F.linear(norm(x, self.norm), embed)
        return F.cross_entropy(z.view(-1, z.shape[-1]), targets.reshape(-1))


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("config")
    ap.add_argument("--batch", type=int, required=True)
    ap.add_argument("--seq", type=int, required=True)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--steps", type=int, default=3)
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--bf16", action="store_true")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    c = json.load(open(a.config))
    model = Qwen3(c)
    step = torch.compile(model) if a.compile else model
    opt = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    tok = torch.randint(0, c["vocab_size"], (a.batch, a.seq + 1))
    times = []
    for _ in range(a.steps + 1):
        t = time.time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
            loss = step(tok[:, :-1], tok[:, 1:])
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
        times.append(time.time() - t)
    print(f"{min(times[1:]):.3f}")


if __name__ == "__main__":
    main()
