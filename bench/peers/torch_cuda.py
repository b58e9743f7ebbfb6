#!/usr/bin/env python3
"""Times PyTorch on a GPU: the same networks and workloads as bench_models, one line of JSON per mode.

    torch_cuda.py [--model resnet18 ...] [--workload inference:224:256 ...] [--seconds 2] [--variant graph ...]
    torch_cuda.py --serve          requests on standard input: {"model": ..., "workload": ..., "variants": [...]}

Modes: graph (channels_last, AMP bf16, cudnn.benchmark, fused SGD, captured as a CUDA graph), graph-bf16 (inference: batch
norms folded and weights kept in bf16 instead of AMP, which casts them in every pass), eager (as graph, not captured),
compile (torch.compile, reduce-overhead, which uses graphs too). A mode that cannot run here prints a line with "error"
and the others go on. --device cpu is for rehearsals of scripts: there are no graphs there.
"""
import argparse
import json
import statistics
import sys
import time

MODELS = ["mobilenet_v3_small", "resnet18", "squeezenet1_1", "efficientnet_v2_s", "shufflenet_v2_x1_0"]
USUAL = ["inference:224:1", "inference:224:256", "training:32:64", "training:224:256"]
VARIANTS = ["graph", "graph-bf16", "eager", "compile"]
INPUTS = 4


class Step:
    """One pass over static inputs, so that it can be captured."""

    def __init__(self, torch, model, mode, size, batch, dtype, device, amp):
        self.torch, self.mode, self.amp, self.device = torch, mode, amp, device
        values = torch.bfloat16 if dtype == "bf16" and not amp else torch.float32
        classes = 10 if size <= 64 else 1000
        self.inputs = [torch.randn(batch, 3, size, size, device=device).to(values, memory_format=torch.channels_last)
                       for _ in range(INPUTS)]
        self.static = self.inputs[0].clone(memory_format=torch.preserve_format)
        self.labels = torch.arange(batch, device=device) % classes
        self.model = model
        if mode == "training":
            model.train()
            self.criterion = torch.nn.CrossEntropyLoss()
            self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4,
                                             **({"fused": True} if device == "cuda" else {"foreach": True}))
        else:
            model.eval()

    def compute(self):
        torch = self.torch
        amp = torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.amp)
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
    wait = torch.cuda.synchronize if step.device == "cuda" else lambda: None

    def one():
        nonlocal turn
        step.static.copy_(step.inputs[turn % INPUTS])
        turn += 1
        run()

    for _ in range(12 if step.device == "cuda" else 2):
        one()
    wait()
    times, start = [], time.perf_counter()
    while len(times) < 10 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        one()
        wait()
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


def fused(torch, model):
    """Batch norms folded into the convolutions before them. torchvision's modules are made in the order in which they
    run, so that this also works where torch.fx cannot trace (ShuffleNetV2)."""
    model.eval()
    for parent in model.modules():
        last = None
        for name, child in list(parent.named_children()):
            if isinstance(last, torch.nn.Conv2d) and isinstance(child, torch.nn.BatchNorm2d):
                setattr(parent, last_name, torch.nn.utils.fusion.fuse_conv_bn_eval(last, child))
                setattr(parent, name, torch.nn.Identity())
            last, last_name = child, name
    return model


def time_one(torch, torchvision, args, name, workload, variant):
    mode, size, batch = workload.split(":")[0], int(workload.split(":")[1]), int(workload.split(":")[2])
    line = {"framework": "pytorch", "version": torch.__version__, "variant": variant, "model": name, "mode": mode,
            "size": size, "batch": batch, "device": args.device, "dtype": args.dtype}
    step = run = model = None
    try:
        if variant.startswith("graph") and args.device != "cuda":
            raise RuntimeError("graphs are CUDA's")
        torch.manual_seed(0)
        model = torchvision.models.__dict__[name](num_classes=10 if size <= 64 else 1000)
        amp = args.dtype == "bf16"
        if variant == "graph-bf16":
            if mode != "inference" or not amp:
                raise RuntimeError("folded bf16 weights are for inference in bf16")
            model, amp = fused(torch, model).bfloat16(), False
        model = model.to(args.device).to(memory_format=torch.channels_last)
        if variant == "compile":
            model = torch.compile(model, mode="reduce-overhead")
        step = Step(torch, model, mode, size, batch, args.dtype, args.device, amp)
        run = captured(torch, step) if variant.startswith("graph") else step.compute
        line.update(measure(torch, run, step, args.seconds))
    except Exception as error:  # any mode may be missing or broken in this PyTorch
        line["error"] = (str(error) or type(error).__name__).strip().splitlines()[0][:200]
    print(json.dumps(line), flush=True)
    step = run = model = None
    if args.device == "cuda":
        torch.cuda.empty_cache()
    return "error" not in line


def serve(torch, torchvision, args):
    for text in sys.stdin:
        request = json.loads(text)
        for variant in request["variants"]:
            time_one(torch, torchvision, args, request["model"], request["workload"], variant)
        print(json.dumps({"done": True}), flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="network; may be repeated (default: the five)")
    parser.add_argument("--workload", action="append", help="mode:size:batch; may be repeated")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="mode; may be repeated (default: all)")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16", help="f32 is TF32 on tensor cores")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it takes minutes)")
    parser.add_argument("--serve", action="store_true", help="answer requests until standard input ends")
    args = parser.parse_args()
    try:
        import torch
        import torchvision
    except ImportError as error:
        print(f"torch_cuda: {error}", file=sys.stderr)
        return 4
    if args.device == "cuda" and not torch.cuda.is_available():
        print("torch_cuda: no GPU answers", file=sys.stderr)
        return 4
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if args.serve:
        return serve(torch, torchvision, args)
    ran = 0
    # The network outermost: a run that is cut has all of the first ones.
    for name in args.model or MODELS:
        for workload in args.workload or USUAL:
            for variant in args.variant or VARIANTS:
                if variant == "graph-bf16" and (workload.startswith("training") or args.dtype != "bf16"):
                    continue
                if variant == "compile" and (args.no_compile or not hasattr(torch, "compile")):
                    continue
                ran += time_one(torch, torchvision, args, name, workload, variant)
    return 0 if ran else 5


if __name__ == "__main__":
    sys.exit(main())
