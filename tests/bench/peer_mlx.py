"""One training step of ternary Qwen3 in MLX on the CPU, compiled with mx.compile: what tbc is compared with.

    peer_mlx.py CONFIG.json --batch B --seq S [--bf16] [--steps N]

MLX's fast attention, norm and rope, its own AdamW. Prints one JSON object: seconds of the best step, peak memory.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_map

import peer


def ste(w, group):
    rows = w.reshape(-1, group)
    s = mx.abs(rows).mean(-1, keepdims=True).astype(mx.float16).astype(w.dtype)
    q = mx.clip(mx.round(rows / mx.maximum(s, 1e-12)), -1, 1) * s
    return w + mx.stop_gradient(q.reshape(w.shape) - w)


def loss_of(params, tokens, targets, c, dtype):
    B, S = tokens.shape
    D, eps = c["head_dim"], c["rms_norm_eps"]
    linear = lambda x, w: x.astype(dtype) @ ste(w, c["group"]).astype(dtype).T
    heads = lambda x: x.reshape(B, S, -1, D).transpose(0, 2, 1, 3)
    turn = lambda x: mx.fast.rope(x, D, traditional=False, base=c["rope_theta"], scale=1.0, offset=0)
    embed = ste(params["embed"], c["group"])
    x = embed[tokens]
    for l in params["layers"]:
        h = mx.fast.rms_norm(x, l["n1"], eps)
        q = turn(mx.fast.rms_norm(heads(linear(h, l["q"])), l["qn"].astype(dtype), eps))
        k = turn(mx.fast.rms_norm(heads(linear(h, l["k"])), l["kn"].astype(dtype), eps))
        v = heads(linear(h, l["v"]))
        a = mx.fast.scaled_dot_product_attention(q, k, v, scale=D**-0.5, mask="causal")
        x = x + linear(a.transpose(0, 2, 1, 3).reshape(B, S, -1), l["o"]).astype(mx.float32)
        h = mx.fast.rms_norm(x, l["n2"], eps)
        x = x + linear(nn.silu(linear(h, l["gate"])) * linear(h, l["up"]), l["down"]).astype(mx.float32)
    z = mx.fast.rms_norm(x, params["norm"], eps).astype(dtype) @ embed.astype(dtype).T
    return nn.losses.cross_entropy(z.astype(mx.float32), targets, reduction="mean")


def main():
    a, c = peer.arguments(__doc__)
    mx.set_default_device(mx.cpu)
    dtype = mx.bfloat16 if a.bf16 else mx.float32
    params = tree_map(mx.array, peer.parameters(c))
    optimizer = optim.AdamW(5e-4, betas=[0.9, 0.95], weight_decay=0.01, bias_correction=True)
    optimizer.init(params)
    tokens = mx.array(peer.tokens(c, a))

    @partial(mx.compile, inputs=[optimizer.state], outputs=[optimizer.state])
    def step(params, tokens, targets):
        loss, grads = mx.value_and_grad(loss_of)(params, tokens, targets, c, dtype)
        return optimizer.apply_gradients(grads, params), loss

    def run():
        nonlocal params
        params, loss = step(params, tokens[:, :-1], tokens[:, 1:])
        mx.eval(params, optimizer.state, loss)
        return loss.item()

    peer.measure(run, a.steps)


if __name__ == "__main__":
    main()
