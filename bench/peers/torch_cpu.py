#!/usr/bin/env python3
"""Times PyTorch on the CPU: one network, one workload, one variant per process, one line of JSON.

    torch_cpu.py --model resnet18 --mode inference --size 224 --batch 16 --variant freeze --threads 2 --seconds 3

Variants of inference: eager, channels_last, compile and compile_channels_last (torch.compile with frozen weights), and
TorchScript's freeze and onednn, for a PyTorch that has no torch.compile. Of training: eager, channels_last, compile,
compile_channels_last. One that this PyTorch lacks ends with an error. --list-variants prints those of a mode."""
import os
import sys

import peer_cpu

VARIANTS = {
    "inference": ["eager", "channels_last", "compile", "compile_channels_last", "freeze", "onednn"],
    "training": ["eager", "channels_last", "compile", "compile_channels_last"],
}


def compiled(torch, function):
    """By torch.compile, its best for a CPU; what it compiled is kept for the next process."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(peer_cpu.CACHE / "inductor"))
    import torch._inductor.config as inductor

    inductor.freezing = True  # of constants in inference: folds batch norm, packs weights for oneDNN
    return torch.compile(function)


def inference_step(torch, model, inputs, variant):
    model.eval()
    if variant.startswith("compile"):
        model = compiled(torch, model)
    elif variant in ("freeze", "onednn"):
        if variant == "onednn":
            torch.jit.enable_onednn_fusion(True)
        with torch.no_grad():
            traced = torch.jit.freeze(torch.jit.trace(model, inputs[0]))
            # The oneDNN graph compiler does its own optimisation of a frozen graph.
            model = traced if variant == "onednn" else torch.jit.optimize_for_inference(traced)

    def step(i):
        with torch.no_grad():
            return model(inputs[i % len(inputs)])

    return step


def training_step(torch, model, inputs, labels, variant):
    model.train()
    forward = compiled(torch, model) if variant.startswith("compile") else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(forward(inputs[i % len(inputs)]), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def make_step(args):
    import torch

    layout = torch.channels_last if "channels_last" in args.variant else torch.contiguous_format
    model = peer_cpu.torch_model(args).to(memory_format=layout)
    inputs = [torch.from_numpy(x).to(memory_format=layout) for x in peer_cpu.numpy_inputs(args, args.batch)]
    if args.mode == "inference":
        return torch.__version__, inference_step(torch, model, inputs, args.variant)
    labels = torch.arange(args.batch) % (10 if args.size <= 64 else 1000)
    return torch.__version__, training_step(torch, model, inputs, labels, args.variant)


if __name__ == "__main__":
    sys.exit(peer_cpu.main("pytorch", __doc__, VARIANTS, make_step))
