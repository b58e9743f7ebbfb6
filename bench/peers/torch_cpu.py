#!/usr/bin/env python3
"""Times PyTorch on the CPU: one network, one workload, one mode per process, one line of JSON.

    torch_cpu.py --model resnet18 --mode inference --size 224 --batch 16 --variant freeze --seconds 3

Variants of inference: eager, channels_last, freeze (TorchScript, frozen and optimised), freeze_channels_last, onednn
(frozen with oneDNN graph fusion, where this PyTorch has it). Of training: eager, channels_last. --list-variants prints
those of a mode.
"""
import argparse
import json
import statistics
import sys
import time

VARIANTS = {
    "inference": ["eager", "channels_last", "freeze", "freeze_channels_last", "onednn"],
    "training": ["eager", "channels_last"],
}
INPUTS = 4  # inputs rotate, so that repeats do not sit in the cache


def inference_step(torch, model, inputs, variant):
    model.eval()
    if variant in ("freeze", "freeze_channels_last", "onednn"):
        if variant == "onednn":
            torch.jit.enable_onednn_fusion(True)
        with torch.no_grad():
            traced = torch.jit.freeze(torch.jit.trace(model, inputs[0]))
            # The oneDNN graph compiler does its own optimisation of a frozen graph.
            model = traced if variant == "onednn" else torch.jit.optimize_for_inference(traced)

    def step(i):
        with torch.inference_mode():
            return model(inputs[i % INPUTS])

    return step


def training_step(torch, model, inputs, labels):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(inputs[i % INPUTS]), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--mode", choices=sorted(VARIANTS), default="inference")
    parser.add_argument("--variant", default="eager")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--list-variants", action="store_true")
    args = parser.parse_args()
    if args.list_variants:
        print("\n".join(VARIANTS[args.mode]))
        return 0
    if args.variant not in VARIANTS[args.mode]:
        parser.error(f"--variant {args.variant}: {args.mode} has {', '.join(VARIANTS[args.mode])}")

    import torch
    import torchvision

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    classes = 10 if args.size <= 64 else 1000
    model = torchvision.models.__dict__[args.model](num_classes=classes)
    layout = torch.channels_last if "channels_last" in args.variant else torch.contiguous_format
    model = model.to(memory_format=layout)
    inputs = [torch.randn(args.batch, 3, args.size, args.size).to(memory_format=layout) for _ in range(INPUTS)]
    labels = torch.arange(args.batch) % classes
    if args.mode == "inference":
        step = inference_step(torch, model, inputs, args.variant)
    else:
        step = training_step(torch, model, inputs, labels)

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
    if not torch.isfinite(result).all():
        print("torch_cpu: the result is not finite", file=sys.stderr)
        return 5
    times.sort()
    print(json.dumps({
        "framework": "pytorch", "version": torch.__version__, "variant": args.variant, "model": args.model,
        "mode": args.mode, "size": args.size, "batch": args.batch, "device": "cpu", "dtype": "f32",
        "threads": torch.get_num_threads(), "samples": len(times), "median_ms": statistics.median(times),
        "min_ms": times[0], "p95_ms": times[min(len(times) - 1, int(0.95 * len(times)))]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
