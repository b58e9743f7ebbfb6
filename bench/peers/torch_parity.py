#!/usr/bin/env python3
"""Does plume compute what PyTorch computes? Random weights and one batch through `parity` and through torchvision.

    torch_parity.py --parity build/cpu/bin/parity --model resnet18 --size 64 --steps 10 [--weights W.safetensors]

PyTorch computes in double precision, so that the deviation is the engine's own. Compared: logits (evaluation, training),
the loss of every step, the gradient of every parameter and the running statistics of the first step. The figure is the
largest difference divided by the largest magnitude of the tensor. In brackets the same figure for PyTorch in single
precision: where a ReLU's or a pool's decision hangs on the last digit, any two orders of summation part, and so do the
two columns; another --seed avoids it. Exit status 1 when logits, losses or statistics deviate by more than --tolerance
or a gradient by more than --gradient-tolerance.
"""
import argparse
import copy
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision

NAMES = {np.dtype("float32"): "F32", np.dtype("int64"): "I64", np.dtype("float64"): "F64"}


def write_safetensors(path, tensors):
    header, offset, blobs = {}, 0, []
    for name, array in tensors.items():
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    types = {"F32": np.float32, "I64": np.int64, "F64": np.float64, "F16": np.float16}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], types[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def torch_run(model, images, labels, args, dtype):
    """The tensors that `parity` writes."""
    out = {}
    model = copy.deepcopy(model).to(dtype).eval()
    for module in model.modules():  # what is random is switched off
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    images = images.to(dtype)
    with torch.no_grad():
        out["logits_eval"] = model(images).numpy()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, args.momentum, weight_decay=args.weight_decay)
    losses = []
    for step in range(args.steps):
        logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            out["logits_train"] = logits.detach().numpy().copy()
            for name, parameter in model.named_parameters():
                out["grad." + name] = parameter.grad.numpy().copy()
            for name, buffer in model.named_buffers():
                if "running_" in name:
                    out["running." + name] = buffer.numpy().copy()
        optimizer.step()
    out["loss"] = np.array(losses)
    return out


# Batch norm makes some gradients zero (of a bias before the next batch norm, for one), and what is computed
# then is rounding: the scale of a gradient is at least this part of the largest of all.
GRADIENT_FLOOR = 1e-3


def deviation(ours, theirs, floor=1e-30):
    return float(np.abs(ours.astype(np.float64) - theirs).max() / max(np.abs(theirs).max(), floor))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parity", required=True)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--weights", help="safetensors file; random weights otherwise")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--gradient-tolerance", type=float, default=1e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    if args.weights:
        state = {name: torch.from_numpy(array.copy()) for name, array in read_safetensors(args.weights).items()}
        head = list(getattr(torchvision.models, args.model)().state_dict())[-1]  # the last layer's bias
        args.classes = len(state[head])
        model = getattr(torchvision.models, args.model)(num_classes=args.classes)
        model.load_state_dict(state)
    else:
        model = getattr(torchvision.models, args.model)(num_classes=args.classes)
        for name, buffer in model.named_buffers():  # so that evaluation differs from the identity
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.7, 1.3)
    images = torch.randn(args.batch, 3, args.size, args.size)
    labels = torch.randint(0, args.classes, (args.batch,))

    with tempfile.TemporaryDirectory() as folder:
        weights, batch, result = (f"{folder}/{name}.safetensors" for name in ("weights", "batch", "result"))
        write_safetensors(weights, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
        write_safetensors(batch, {"input": images.numpy(), "labels": labels.numpy()})
        subprocess.run(
            [args.parity, "--model", args.model, "--weights", weights, "--batch", batch, "--out", result,
             "--steps", str(args.steps), "--lr", str(args.lr), "--momentum", str(args.momentum),
             "--weight-decay", str(args.weight_decay), "--device", args.device],
            check=True)  # fmt: skip
        ours = read_safetensors(result)
    theirs = torch_run(model, images, labels, args, torch.float64)
    single = torch_run(model, images, labels, args, torch.float32)

    if set(ours) != set(theirs):
        sys.exit(f"different tensors: only here {sorted(set(ours) - set(theirs))}, only there {sorted(set(theirs) - set(ours))}")
    failed = False
    groups = {}
    largest = max(np.abs(value).max() for name, value in theirs.items() if name.startswith("grad."))
    for name in theirs:
        kind = name.split(".")[0]
        floor = GRADIENT_FLOOR * largest if kind == "grad" else 1e-30
        value = deviation(ours[name], theirs[name], floor)
        if kind not in groups or value > groups[kind][0]:
            groups[kind] = (value, name, deviation(single[name], theirs[name], floor))
        failed |= value > (args.gradient_tolerance if kind == "grad" else args.tolerance) or not np.isfinite(value)
    for kind, (value, name, torch_single) in groups.items():
        print(f"{args.model} {args.size}x{args.size} {args.device}: {kind:<12} {value:.2e}  [{torch_single:.2e}]  {name}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
