"""What the CPU peers share: flags, inputs, the timing loop and the line of JSON.

A peer lists its variants per mode and makes a function that computes pass i; see torch_cpu.py. It runs one
network, one workload and one variant per process, as frameworks disturb each other's threads."""
import argparse
import json
import pathlib
import statistics
import sys
import time

INPUTS = 4  # inputs rotate, so that repeats do not sit in the cache
CACHE = pathlib.Path(__file__).resolve().parent.parent.parent / "out" / "peers"  # converted networks


def main(framework, description, variants, make_step):
    """`variants`: mode -> names. make_step(args) -> (version, step), where step(i) returns a result to check."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--mode", choices=["inference", "training"], default="inference")
    parser.add_argument("--variant", default=None)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--list-variants", action="store_true")
    args = parser.parse_args()
    names = variants.get(args.mode, [])
    if args.list_variants:
        print("\n".join(names))
        return 0
    args.variant = args.variant or names[0]
    if args.variant not in names:
        parser.error(f"--variant {args.variant}: {args.mode} has {', '.join(names)}")
    version, step = make_step(args)

    def timed(i):
        start = time.perf_counter()
        result = step(i)
        return (time.perf_counter() - start) * 1e3, result

    warm_up, passes = time.perf_counter(), 0
    while passes < 6 or time.perf_counter() - warm_up < min(args.seconds, 1.0):
        timed(passes)
        passes += 1
    times, result, start = [], None, time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < args.seconds:
        milliseconds, result = timed(len(times))
        times.append(milliseconds)
    import numpy
    if not numpy.isfinite(numpy.asarray(result)).all():
        print(f"{framework}: the result is not finite", file=sys.stderr)
        return 5
    times.sort()
    print(json.dumps({
        "framework": framework, "version": version, "variant": args.variant, "model": args.model,
        "mode": args.mode, "size": args.size, "batch": args.batch, "device": "cpu", "dtype": "f32",
        "threads": args.threads, "samples": len(times), "median_ms": statistics.median(times),
        "min_ms": times[0], "p95_ms": times[min(len(times) - 1, int(0.95 * len(times)))]}))
    return 0


def torch_model(args):
    """torchvision's network with random weights: 10 classes up to 64x64 images, 1000 above."""
    import torch
    import torchvision

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    return torchvision.models.__dict__[args.model](num_classes=10 if args.size <= 64 else 1000)


def numpy_inputs(args, batch):
    import numpy

    random = numpy.random.default_rng(0)
    return [random.standard_normal((batch, 3, args.size, args.size), dtype=numpy.float32) for _ in range(INPUTS)]


def converted(args, suffix, convert):
    """The file of a converted network; convert(model, path) writes it once, then it is kept."""
    path = CACHE / f"{args.model}-{args.size}{suffix}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        convert(torch_model(args).eval(), path)
    return path
