#!/usr/bin/env python3
"""Times OpenVINO on the CPU: inference of torchvision's networks, exported once through PyTorch to ONNX.

    openvino_cpu.py --model resnet18 --size 224 --batch 16 --threads 2 --seconds 3

Tuned for latency, f32 held (on processors with AMX it would choose bf16 by itself). Needs the package
openvino beside PyTorch."""
import sys

import onnxruntime_cpu
import peer_cpu

VARIANTS = {"inference": ["latency"]}


def make_step(args):
    import openvino

    core = openvino.Core()
    network = core.read_model(str(peer_cpu.converted(args, ".onnx", onnxruntime_cpu.export)))
    network.reshape({"input": [args.batch, 3, args.size, args.size]})
    compiled = core.compile_model(network, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": args.threads, "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    inputs = peer_cpu.numpy_inputs(args, args.batch)
    output = compiled.output(0)
    return openvino.__version__, lambda i: request.infer({0: inputs[i % len(inputs)]})[output]


if __name__ == "__main__":
    sys.exit(peer_cpu.main("openvino", __doc__, VARIANTS, make_step))
