#!/usr/bin/env python3
"""Times PyTorch on a GPU: the same networks and workloads as bench_models, one line of JSON per mode.

    torch_cuda.py [--model resnet18 ...] [--workload inference:224:256 ...] [--seconds 2] [--no-compile | --only-compile]

Modes: eager (channels_last, AMP bf16, cudnn.benchmark), graph (the same captured as a CUDA graph), compile (torch.compile,
reduce-overhead, which uses graphs too). A mode that cannot run here prints a line with "error" and the others go on.
"""
import argparse
import json
import statistics
import sys
import time

MODELS = ["mobilenet_v3_small", "resnet18", "squeezenet1_1", "efficientnet_v2_s", "shufflenet_v2_x1_0"]
USUAL = ["inference:224:1", "inference:224:256", "training:32:64", "training:224:256"]
INPUTS = 4


class Step:
    """One pass over static inputs, so that it can be captured."""

    def __init__(self, torch, model, mode, size, batch, dtype):
        self.torch, self.mode, self.dtype = torch, mode, dtype
        classes = 10 if size <= 64 else 1000
        self.inputs = [torch.randn(batch, 3, size, size, device="cuda").to(memory_format=torch.channels_last)
                       for _ in range(INPUTS)]
        self.static = self.inputs[0].clone(memory_format=torch.preserve_format)
        self.labels = torch.arange(batch, device="cuda") % classes
        self.model = model
        if mode == "training":
            model.train()
            self.criterion = torch.nn.CrossEntropyLoss()
            self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4,
                                             foreach=True)
        else:
            model.eval()

    def compute(self):
        torch = self.torch
        amp = torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.dtype == "bf16")
        if self.mode == "inference":
            with torch.no_grad(), amp:
                self.result = self.model(self.static)
            return
        self.optimizer.zero_grad(set_to_none=True)
        with amp:
            self.result = self.criterion(self.model(self.static), self.labels)
        self.result.backward()
        self.optimizer.step()


def measure(torch, run, step, seconds):
    turn = 0

    def one():
        nonlocal turn
        step.static.copy_(step.inputs[turn % INPUTS])
        turn += 1
        run()

    for _ in range(12):
        one()
    torch.cuda.synchronize()
    times, start = [], time.perf_counter()
    while len(times) < 10 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        one()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    if not torch.isfinite(step.result).all():
        raise RuntimeError("the result is not finite")
    times.sort()
    return {"samples": len(times), "median_ms": statistics.median(times), "min_ms": times[0],
            "p95_ms": times[min(len(times) - 1, int(0.95 * len(times)))]}


def captured(torch, step):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step.compute()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.compute()
    return graph.replay


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="network; may be repeated (default: the five)")
    parser.add_argument("--workload", action="append", help="mode:size:batch; may be repeated")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16", help="f32 is TF32 on tensor cores")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it takes minutes)")
    parser.add_argument("--only-compile", action="store_true")
    args = parser.parse_args()
    try:
        import torch
        import torchvision
    except ImportError as error:
        print(f"torch_cuda: {error}", file=sys.stderr)
        return 4
    if not torch.cuda.is_available():
        print("torch_cuda: no GPU answers", file=sys.stderr)
        return 4
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    modes = ["eager", "graph"] + ([] if args.no_compile or not hasattr(torch, "compile") else ["compile"])
    if args.only_compile:
        modes = [m for m in modes if m == "compile"]
    ran = 0
    for variant in modes:
        for name in args.model or MODELS:
            for workload in args.workload or USUAL:
                mode, size, batch = workload.split(":")[0], int(workload.split(":")[1]), int(workload.split(":")[2])
                line = {"framework": "pytorch", "version": torch.__version__, "variant": variant, "model": name,
                        "mode": mode, "size": size, "batch": batch, "device": "cuda", "dtype": args.dtype}
                try:
                    torch.manual_seed(0)
                    model = torchvision.models.__dict__[name](num_classes=10 if size <= 64 else 1000)
                    model = model.cuda().to(memory_format=torch.channels_last)
                    if variant == "compile":
                        model = torch.compile(model, mode="reduce-overhead")
                    step = Step(torch, model, mode, size, batch, args.dtype)
                    run = captured(torch, step) if variant == "graph" else step.compute
                    line.update(measure(torch, run, step, args.seconds))
                    ran += 1
                except Exception as error:  # any mode may be missing or broken in this PyTorch
                    line["error"] = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
                print(json.dumps(line), flush=True)
                step = run = model = None
                torch.cuda.empty_cache()
    return 0 if ran else 5


if __name__ == "__main__":
    sys.exit(main())
