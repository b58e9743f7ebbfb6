#!/usr/bin/env python3
"""Times LiteRT (TensorFlow Lite with XNNPACK) on the CPU: inference of torchvision's networks, converted once.

    litert_cpu.py --model resnet18 --size 224 --batch 16 --threads 2 --seconds 3

Images are NHWC, as LiteRT computes with them. Needs the packages ai-edge-litert and litert-torch beside PyTorch."""
import sys

import peer_cpu

VARIANTS = {"inference": ["xnnpack"]}


def make_step(args):
    import ai_edge_litert
    import numpy
    from ai_edge_litert.interpreter import Interpreter

    def convert(model, path):
        import litert_torch
        import torch

        images = torch.zeros(args.batch, args.size, args.size, 3)
        litert_torch.convert(litert_torch.to_channel_last_io(model, args=[0]).eval(), (images,)).export(str(path))

    network = Interpreter(str(peer_cpu.converted(args, f"-batch{args.batch}.tflite", convert)), num_threads=args.threads)
    network.allocate_tensors()
    place, output = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
    inputs = [numpy.ascontiguousarray(x.transpose(0, 2, 3, 1)) for x in peer_cpu.numpy_inputs(args, args.batch)]

    def step(i):
        network.set_tensor(place, inputs[i % len(inputs)])
        network.invoke()
        return network.get_tensor(output)

    return ai_edge_litert.__version__, step


if __name__ == "__main__":
    sys.exit(peer_cpu.main("litert", __doc__, VARIANTS, make_step))
