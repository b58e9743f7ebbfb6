#!/usr/bin/env python3
"""Times ncnn on the CPU: inference of torchvision's networks, converted once by pnnx through PyTorch.

    ncnn_cpu.py --model resnet18 --size 224 --batch 16 --threads 2 --seconds 3

ncnn has no batches: a batch is that many images one after the other. Weights and sums are f32, like everyone
else's here. Needs the packages ncnn and pnnx beside PyTorch."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

import peer_cpu

VARIANTS = {"inference": ["f32"]}


def convert(model, path):
    import torch

    size = int(path.name.split(".")[0].rsplit("-", 1)[1])
    with tempfile.TemporaryDirectory() as folder:
        traced = pathlib.Path(folder) / "net.pt"
        with torch.no_grad():
            torch.jit.trace(model, torch.zeros(1, 3, size, size)).save(str(traced))
        pnnx = pathlib.Path(sys.executable).parent / "pnnx"
        subprocess.run([str(pnnx if pnnx.exists() else "pnnx"), str(traced), f"inputshape=[1,3,{size},{size}]", "fp16=0"],
                       check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.move(str(traced.with_suffix(".ncnn.bin")), path.with_suffix(".bin"))
        shutil.move(str(traced.with_suffix(".ncnn.param")), path)


def make_step(args):
    import ncnn
    import numpy

    net = ncnn.Net()
    net.opt.num_threads = args.threads
    for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{half}", False)
    path = peer_cpu.converted(args, ".param", convert)
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))
    inputs = [[numpy.ascontiguousarray(image) for image in batch] for batch in peer_cpu.numpy_inputs(args, args.batch)]

    def step(i):
        logits = []
        for image in inputs[i % len(inputs)]:
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(image))
            logits.append(numpy.array(extractor.extract("out0")[1]))
        return numpy.stack(logits)

    return ncnn.__version__, step


if __name__ == "__main__":
    sys.exit(peer_cpu.main("ncnn", __doc__, VARIANTS, make_step))
