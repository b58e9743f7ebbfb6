#!/usr/bin/env python3
"""Times ONNX Runtime on the CPU: inference of torchvision's networks, exported once through PyTorch.

    onnxruntime_cpu.py --model resnet18 --size 224 --batch 16 --threads 2 --seconds 3

All graph optimisations are on. Needs the package onnxruntime beside PyTorch.
"""
import sys

import peer_cpu

VARIANTS = {"inference": ["optimized"]}


def export(model, path):
    import torch

    size = int(path.stem.rsplit("-", 1)[1])
    names = {"input_names": ["input"], "output_names": ["logits"]}
    if hasattr(torch, "export"):
        program = torch.onnx.export(model, (torch.zeros(2, 3, size, size),), dynamo=True, **names,
                                    dynamic_shapes=({0: torch.export.Dim("batch")},))
        program.save(str(path), external_data=False)
    else:  # PyTorch 1
        torch.onnx.export(model, torch.zeros(1, 3, size, size), str(path), opset_version=14, **names,
                          dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


def make_step(args):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(peer_cpu.converted(args, ".onnx", export)), options,
                                           providers=["CPUExecutionProvider"])
    inputs = peer_cpu.numpy_inputs(args, args.batch)
    return onnxruntime.__version__, lambda i: session.run(None, {"input": inputs[i % len(inputs)]})[0]


if __name__ == "__main__":
    sys.exit(peer_cpu.main("onnxruntime", __doc__, VARIANTS, make_step))
