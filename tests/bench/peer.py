"""What the peers share: the command line, the model's parameters, the clock."""

import argparse
import json
import os
import resource
import time


def arguments(doc):
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("config")
    ap.add_argument("--batch", type=int, required=True)
    ap.add_argument("--seq", type=int, required=True)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--steps", type=int, default=3, help="timed, after one that is not")
    ap.add_argument("--compile", action="store_true", help="torch.compile")
    ap.add_argument("--bf16", action="store_true", help="products in bf16, everything else in f32")
    a = ap.parse_args()
    with open(a.config) as f:
        return a, {**json.load(f), "group": 128}


def parameters(c):
    """NumPy arrays: {"embed", "norm", "layers": [{..}]}; matrices are [out, in]. Tied head."""
    import numpy as np

    rng = np.random.default_rng(1)
    h, f, d = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    new = lambda *shape: rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
    one = lambda n: np.ones(n, np.float32)
    layer = lambda: dict(n1=one(h), n2=one(h), qn=one(d), kn=one(d), q=new(q, h), k=new(kv, h), v=new(kv, h),
                         o=new(h, q), gate=new(f, h), up=new(f, h), down=new(h, f))
    return dict(embed=new(c["vocab_size"], h), norm=one(h), layers=[layer() for _ in range(c["num_hidden_layers"])])


def tokens(c, a):
    import numpy as np

    return np.random.default_rng(2).integers(0, c["vocab_size"], (a.batch, a.seq + 1), np.int32)


def measure(step, steps):
    """Runs the step once to warm up and prints the best of `steps` more, with the process's peak memory."""
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": round(min(times[1:]), 4), "peak_rss_gb": round(rss * 1024 / 1e9, 2), "loss": round(loss, 4)}))
