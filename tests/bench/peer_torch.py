"""One training step of ternary Qwen3 in PyTorch, in its best form: what tbc is compared with.

    peer_torch.py CONFIG.json --batch B --seq S [--threads T] [--compile] [--bf16] [--steps N]

Fused scaled-dot-product attention, fused AdamW. Prints one JSON object: seconds of the best step, peak memory.
"""

import torch
import torch.nn.functional as F

import peer


def ste(w, group):
    rows = w.view(-1, group)
    s = rows.abs().mean(-1, keepdim=True).half().to(w.dtype)
    q = (rows / s.clamp_min(1e-12)).round().clamp(-1, 1) * s
    return w + (q.view_as(w) - w).detach()


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Qwen3(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        values = peer.parameters(c)
        param = lambda x: torch.nn.Parameter(torch.from_numpy(x))
        self.embed, self.norm = param(values["embed"]), param(values["norm"])
        self.layers = torch.nn.ModuleList(
            torch.nn.ParameterDict({name: param(x) for name, x in layer.items()}) for layer in values["layers"])

    def forward(self, tokens, targets):
        c, g = self.c, self.c["group"]
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
        return F.cross_entropy(z.view(-1, z.shape[-1]).float(), targets.reshape(-1))


def main():
    a, c = peer.arguments(__doc__)
    torch.set_num_threads(a.threads)
    model = Qwen3(c)
    forward = torch.compile(model) if a.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    tokens = torch.from_numpy(peer.tokens(c, a)).long()

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
            loss = forward(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    peer.measure(step, a.steps)


if __name__ == "__main__":
    main()
