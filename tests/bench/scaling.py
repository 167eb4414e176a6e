#!/usr/bin/env python3
"""How the cost of a training step grows with the model, on this machine and, by a model, on one with many cores.

    scaling.py [--build DIR] [--precision f32|i16|bf16] [--cores N] [--bandwidth GB/s] [--wake US] [--only seq|layers|hidden]

Each row is a Qwen3 of head size 64 and vocabulary 8192 in which one number changes. Measured, the best of three steps:
seconds on one thread and on all, GFLOP/s, and the share of the bound (each launch at the peak of arithmetic or of
memory, whichever takes longer, as --profile measures them). GB: the planned memory.

The model of N cores starts from what each kernel takes on one thread, t. A launch of T tiles takes

    max(t ceil(T / N) / T,  the part of t for which memory is busy, at the bandwidth of N)  +  waking N threads

The column `model` is that for all threads of this machine, to be compared with what was measured. The last columns are
for --cores cores like these in one socket, which share --bandwidth; waking takes --wake microseconds for each thread
after the first two, one after the other. t is measured on a module that is compiled for as many. What keeps the cores
from being used is listed by kernel: too few tiles, memory, or waking threads.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import re
import subprocess
import tempfile

Row = collections.namedtuple("Row", "name layers hidden batch seq")
Run = collections.namedtuple("Run", "step kernels peak bandwidth")  # seconds, {kernel: seconds a step}, FLOP/s, bytes/s


def rows():
    for seq in (128, 256, 512, 1024, 2048, 4096):
        yield Row("seq", 4, 256, 4096 // seq, seq)
    for layers in (4, 8, 16, 28):
        yield Row("layers", layers, 256, 4, 256)
    for hidden in (256, 512, 1024, 2048):
        yield Row("hidden", 2, hidden, 2, 256)


def config(row):
    heads = row.hidden // 64
    return dict(model_type="qwen3", vocab_size=8192, hidden_size=row.hidden, intermediate_size=3 * row.hidden,
                num_hidden_layers=row.layers, num_attention_heads=heads, num_key_value_heads=heads // 2, head_dim=64,
                rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True)


def compiled(a, work, row, cores):
    """The launches of a step, and the module's memory in GB."""
    (work / "config.json").write_text(json.dumps(config(row)))
    subprocess.run([a.build / "tbc", "compile", work / "config.json", "-o", work / "train.so", "--batch", str(row.batch),
                    "--seq", str(row.seq), "--precision", a.precision, "--cores", str(cores)], check=True)
    module = json.loads(subprocess.check_output([a.build / "tbc", "inspect", "--json", work / "train.so"]))
    table = next(t for t in module["tables"] if t["name"] == "train")
    return table["launches"], module["arena_bytes"] / 1e9


def trained(a, work, row, threads):
    """The best of three steps. The profile is of all of them and is scaled to it: the first finds no page in memory."""
    log = work / "log"
    log.unlink(missing_ok=True)
    out = subprocess.check_output([a.build / "tbc-run", work / "train.so", "--data", work / "text", "--tokenizer", "byte",
                                   "--steps", "3", "--quiet", "--log", log, "--threads", str(threads), "--profile"],
                                  text=True)
    line = re.search(r"roofline: (.*) memory ([\d.]+) GB/s", out)
    peak = {name: float(rate) * 1e9 for name, rate in re.findall(r"(\w+) ([\d.]+) GFLOP/s", line[1])}
    step = row.batch * row.seq / max(json.loads(l)["tokens_per_s"] for l in log.read_text().splitlines())
    table = re.findall(r"^ *([\d.]+) +[\d.]+ +\d+ +[\d.]+ +[\d.]+ +\S+  (\S+)$", out, re.M)
    seconds = {kernel: float(ms) for ms, kernel in table}
    total = seconds.pop("total")
    return Run(step, {k: s / total * step for k, s in seconds.items()}, peak, float(line[2]) * 1e9)


def math_of(kernel):
    return next((m for m in ("i16", "bf16") if f"_{m}" in kernel), "f32")


def bound(launches, run):
    return sum(max(l["flops"] / run.peak[math_of(l["kernel"])], l["bytes"] / run.bandwidth) for l in launches)


def predicted(launches, one, cores, bandwidth, wake):
    """Seconds on that many cores, by kernel: [one thread / cores, balance, memory, waking]; the last three are added."""
    count = collections.Counter(l["kernel"] for l in launches)
    result = collections.defaultdict(lambda: [0, 0, 0, 0])
    for l in launches:
        t = one.kernels.get(l["kernel"], 0) / count[l["kernel"]]
        tiles = max(l["tiles"], 1)
        balanced = t * math.ceil(tiles / cores) / tiles
        memory = min(t, l["bytes"] / one.bandwidth) * one.bandwidth / bandwidth
        parts = (t / cores, balanced - t / cores, max(memory - balanced, 0), wake(cores) if tiles > 1 else 0)
        result[l["kernel"]] = [x + y for x, y in zip(result[l["kernel"]], parts)]
    return result


def seconds(prediction):
    return sum(sum(parts) for parts in prediction.values())


def wake_of_two(a, work, threads):
    """Seconds that a launch on all threads costs more than its share of the work, from launches with little work."""
    row = Row("", 2, 256, 1, 128)
    launches, _ = compiled(a, work, row, threads)
    small = [l for l in launches if l["tiles"] > 1 and l["flops"] < 1e6]
    one, all_ = trained(a, work, row, 1), trained(a, work, row, threads)
    ideal = predicted(small, one, threads, one.bandwidth * threads, lambda _: 0)
    return max(sum(all_.kernels[k] - sum(parts) for k, parts in ideal.items()) / len(small), 0)


def lost(prediction, top):
    """The kernels that lose most, and to what most of it."""
    reasons = ("tiles", "memory", "waking")
    worst = sorted(prediction.items(), key=lambda item: -sum(item[1][1:]))[:top]
    return ", ".join(f"{kernel} {1e3 * sum(parts[1:]):.1f} ms ({reasons[parts[1:].index(max(parts[1:]))]})"
                     for kernel, parts in worst)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", type=pathlib.Path, default=pathlib.Path(__file__).parents[2] / "build")
    ap.add_argument("--precision", default="f32")
    ap.add_argument("--cores", type=int, default=64)
    ap.add_argument("--bandwidth", type=float, default=300, help="of the machine with those cores, GB/s")
    ap.add_argument("--wake", type=float, default=1, help="of each further thread, microseconds")
    ap.add_argument("--only", choices=("seq", "layers", "hidden"))
    a = ap.parse_args()
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "text").write_text("\n".join(f"{i} {i * i % 8191}" for i in range(300000)))
        first = wake_of_two(a, work, threads)
        wake = lambda n: first + (n - threads) * a.wake * 1e-6 if n > 1 else 0
        print(f"{threads} threads, {1e6 * first:.0f} us to wake them; {a.cores} cores with {a.bandwidth:g} GB/s, "
              f"{1e6 * wake(a.cores):.0f} us\n")
        print(f"{'layers hidden  batch x seq':26} {'GB':>5} {'1 thread':>9} {f'{threads} threads':>9} {'model':>8} {'GFLOP/s':>8} "
              f"{'bound':>6} {f'{a.cores} cores':>9} {'faster':>7}")
        losses = []
        for row in rows():
            if a.only and row.name != a.only:
                continue
            cut, _ = compiled(a, work, row, a.cores)
            many = predicted(cut, trained(a, work, row, 1), a.cores, a.bandwidth * 1e9, wake)
            launches, memory = compiled(a, work, row, threads)
            one, all_ = trained(a, work, row, 1), trained(a, work, row, threads)
            model = predicted(launches, one, threads, all_.bandwidth, wake)
            flops = sum(l["flops"] for l in launches)
            name = f"{row.layers:6} {row.hidden:6} {row.batch:6} x {row.seq:4}"
            losses.append(f"{name}     {lost(many, 3)}")
            print(f"{name}     {memory:5.2f} {one.step:9.3f} {all_.step:9.3f} {seconds(model):8.3f} "
                  f"{flops / all_.step / 1e9:8.1f} {bound(launches, all_) / all_.step:6.0%} {seconds(many):9.4f} "
                  f"{one.step / seconds(many):6.1f}x", flush=True)
        print(f"\nwhat {a.cores} cores lose most time to, beside an equal share of the work:", *losses, sep="\n")


if __name__ == "__main__":
    main()
