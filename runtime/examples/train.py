"""train.py TRAIN.so: trains a compiled model for three steps on one batch, and prints the losses.

Needs nothing but Python: the structures are those of tbc_module.h, read with ctypes.
"""
import ctypes as c
import os
import random
import sys

KERNEL = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_uint64, c.c_void_p)
PARAM, INPUT, OUTPUT = 0, 2, 3


class Kernel(c.Structure):
    _fields_ = [("name", c.c_char_p), ("run", KERNEL), ("math", c.c_uint32)]


class Launch(c.Structure):
    _fields_ = [("kernel", c.c_uint32), ("tiles", c.c_uint32), ("args", c.c_uint32), ("nargs", c.c_uint32),
                ("flops", c.c_uint64), ("bytes", c.c_uint64), ("label", c.c_char_p)]


class Table(c.Structure):
    _fields_ = [("name", c.c_char_p), ("first", c.c_uint32), ("count", c.c_uint32)]


class Tensor(c.Structure):
    _fields_ = [("name", c.c_char_p), ("kind", c.c_uint32), ("dtype", c.c_uint32), ("table", c.c_int32),
                ("group", c.c_uint32), ("rank", c.c_uint32), ("dim", c.c_int64 * 4), ("offset", c.c_uint64),
                ("bytes", c.c_uint64), ("live_first", c.c_uint32), ("live_last", c.c_uint32)]


class Const(c.Structure):
    _fields_ = [("offset", c.c_uint64), ("bytes", c.c_uint64), ("data", c.c_void_p)]


class Module(c.Structure):
    _fields_ = [("magic", c.c_char * 8), ("abi", c.c_uint32), ("bytes", c.c_uint32), ("meta", c.c_char_p),
                ("cpu_features", c.c_char_p), ("arena_bytes", c.c_uint64), ("scratch_bytes", c.c_uint64),
                ("nkernels", c.c_uint32), ("ntensors", c.c_uint32), ("ntables", c.c_uint32),
                ("nlaunches", c.c_uint32), ("nargs", c.c_uint32), ("nconsts", c.c_uint32),
                ("kernels", c.POINTER(Kernel)), ("tensors", c.POINTER(Tensor)), ("tables", c.POINTER(Table)),
                ("launches", c.POINTER(Launch)), ("args", c.POINTER(c.c_uint64)), ("consts", c.POINTER(Const)),
                ("gpu", c.c_void_p)]


def aligned(size):
    """Zeroed memory at a 64-byte boundary: (address, owner)."""
    owner = c.create_string_buffer(size + 64)
    return (c.addressof(owner) + 63) // 64 * 64, owner


def main(path):
    m = Module.in_dll(c.CDLL(os.path.abspath(path)), "tbc_module")
    if m.magic != b"tbc-mod" or m.abi != 2 or m.bytes != c.sizeof(Module) or m.gpu:
        sys.exit(f"{path}: not a module of this version")
    arena, arena_owner = aligned(m.arena_bytes)
    scratch, scratch_owner = aligned(m.scratch_bytes)
    for k in m.consts[:m.nconsts]:
        c.memmove(arena + k.offset, k.data, k.bytes)

    tables = {t.name.decode(): (i, t) for i, t in enumerate(m.tables[:m.ntables])}
    if "train" not in tables:
        sys.exit("the module has no table train (compile with --grads fused)")
    index, train = tables["train"]
    io = {}
    for t in m.tensors[:m.ntensors]:
        if t.kind == PARAM:  # norms 1, matrices N(0, 1 / fan-in); a real program loads a checkpoint here
            count = t.bytes // 4
            w = (c.c_float * count).from_address(arena + t.offset)
            sigma = t.dim[t.rank - 1] ** -0.5
            w[:] = [1.0] * count if t.rank < 2 else [random.gauss(0, sigma) for _ in range(count)]
        elif t.table == index and t.kind in (INPUT, OUTPUT):
            kind = c.c_int32 if t.dtype == 1 else c.c_float
            io[t.name.decode()] = (kind * (t.bytes // 4)).from_address(arena + t.offset)

    args = c.addressof(m.args.contents)

    def run(table):
        for launch in m.launches[table.first:table.first + table.count]:
            kernel = m.kernels[launch.kernel].run
            for tile in range(launch.tiles):  # in any order, on any thread
                kernel(arena, args + 8 * launch.args, tile, scratch)

    if "project" in tables:
        run(tables["project"][1])  # the codes of these weights
    lr, decay, beta1, beta2 = 1e-3, 0.01, 0.9, 0.95
    count = len(io["tokens"])
    for step in range(1, 4):
        io["tokens"][:] = [i * i % 61 for i in range(count)]  # inputs, before every run
        io["targets"][:] = [(i + 1) ** 2 % 61 for i in range(count)]
        io["hyper"][:] = [1 - lr * decay, lr / (1 - beta1 ** step), 1 / (1 - beta2 ** step), 1]
        run(train)
        print(f"step {step}: loss {io['loss'][0]:.4f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: train.py TRAIN.so")
    random.seed(0)
    main(sys.argv[1])
