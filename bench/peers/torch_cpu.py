#!/usr/bin/env python3
"""Times PyTorch on the CPU: one network, one workload, one variant per process, one line of JSON.

    torch_cpu.py --model resnet18 --mode inference --size 224 --batch 16 --variant freeze --threads 2 --seconds 3

Variants of inference: eager, channels_last, freeze (TorchScript, frozen and optimised), freeze_channels_last,
onednn (frozen with oneDNN graph fusion, where this PyTorch has it). Of training: eager, channels_last.
--list-variants prints those of a mode."""
import sys

import peer_cpu

VARIANTS = {
    "inference": ["eager", "channels_last", "freeze", "freeze_channels_last", "onednn"],
    "training": ["eager", "channels_last"],
}


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
            return model(inputs[i % len(inputs)])

    return step


def training_step(torch, model, inputs, labels):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(inputs[i % len(inputs)]), labels)
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
    return torch.__version__, training_step(torch, model, inputs, labels)


if __name__ == "__main__":
    sys.exit(peer_cpu.main("pytorch", __doc__, VARIANTS, make_step))
