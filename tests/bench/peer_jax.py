"""One training step of ternary Qwen3 in JAX, compiled as a whole by XLA: what tbc is compared with.

    peer_jax.py CONFIG.json --batch B --seq S [--bf16] [--steps N]

Donated buffers, its own fused attention, Optax's AdamW. Prints one JSON object: seconds of the best step, peak memory.
"""

import jax
import jax.numpy as jnp
import optax

import peer


def ste(w, group):
    rows = w.reshape(-1, group)
    s = jnp.abs(rows).mean(-1, keepdims=True).astype(jnp.float16).astype(w.dtype)
    q = jnp.clip(jnp.round(rows / jnp.maximum(s, 1e-12)), -1, 1) * s
    return w + jax.lax.stop_gradient(q.reshape(w.shape) - w)


def rope(x, cos, sin):
    a, b = jnp.split(x, 2, -1)
    return x * cos + jnp.concatenate([-b, a], -1) * sin


def loss_of(params, tokens, targets, c, dtype):
    B, S = tokens.shape
    D, eps = c["head_dim"], c["rms_norm_eps"]
    angle = jnp.outer(jnp.arange(S), c["rope_theta"] ** (-jnp.arange(0, D, 2) / D))
    angle = jnp.tile(angle, (1, 2))[None, :, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    norm = lambda x, w: x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps) * w
    weight = lambda w: ste(w, c["group"]).astype(dtype)
    linear = lambda x, w: jnp.dot(x.astype(dtype), weight(w).T, preferred_element_type=jnp.float32)
    heads = lambda x: x.reshape(B, S, -1, D)
    embed = ste(params["embed"], c["group"])
    x = embed[tokens]
    for l in params["layers"]:
        h = norm(x, l["n1"])
        q = rope(norm(heads(linear(h, l["q"])), l["qn"]), cos, sin)
        k = rope(norm(heads(linear(h, l["k"])), l["kn"]), cos, sin)
        v = heads(linear(h, l["v"]))
        a = jax.nn.dot_product_attention(q.astype(dtype), k.astype(dtype), v.astype(dtype), is_causal=True)
        x = x + linear(a.reshape(B, S, -1), l["o"])
        h = norm(x, l["n2"])
        x = x + linear(jax.nn.silu(linear(h, l["gate"])) * linear(h, l["up"]), l["down"])
    z = jnp.dot(norm(x, params["norm"]).astype(dtype), embed.astype(dtype).T, preferred_element_type=jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(z, targets).mean()


def main():
    a, c = peer.arguments(__doc__)
    dtype = jnp.bfloat16 if a.bf16 else jnp.float32
    params = jax.tree.map(jnp.asarray, peer.parameters(c))
    optimizer = optax.adamw(5e-4, 0.9, 0.95, weight_decay=0.01)

    def step(params, state, tokens, targets):
        loss, grads = jax.value_and_grad(loss_of)(params, tokens, targets, c, dtype)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    step = jax.jit(step, donate_argnums=(0, 1))
    state = optimizer.init(params)
    tokens = jnp.asarray(peer.tokens(c, a))

    def run():
        nonlocal params, state
        params, state, loss = step(params, state, tokens[:, :-1], tokens[:, 1:])
        return float(loss)

    peer.measure(run, a.steps)


if __name__ == "__main__":
    main()
