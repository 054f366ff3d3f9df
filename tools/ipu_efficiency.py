"""What square products and ResNet-50's convolutions reach of an IPU's peak, as markdown tables.

Usage: ipu_efficiency.py [--machine NAME] [--largest N]

Products of two N x N matrices of halves, both given at run time or the second one constant, with sums in f32 and in
f16; ResNet-50 (build/models/resnet50.onnx, which ./run models exports) at batch 1, 4 and 16, its convolutions alone.
The peak is that of f16 with f16 sums. Shares of
the cycles say what takes the time: of the tile that each exchange waits for its matrix unit, reductions (sums of parts),
elementwise work and moves (copies, fills), then exchange and barriers.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUADRILLE = os.environ.get("QUADRILLE", os.path.join(ROOT, "build/bin/quadrille"))


def product(size, constant, path):
    shape = [size, size]
    inputs = [helper.make_tensor_value_info("a", TensorProto.FLOAT16, shape)]
    weights = []
    if constant:
        values = (numpy.random.RandomState(0).standard_normal(shape) * 0.05).astype(numpy.float16)
        weights.append(numpy_helper.from_array(values, "b"))
    else:
        inputs.append(helper.make_tensor_value_info("b", TensorProto.FLOAT16, shape))
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product", inputs,
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT16, shape)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def profile(model, machine, *options):
    command = [QUADRILLE, "profile", model, "--machine", machine, "--json", *options]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return None, run.stderr.strip().splitlines()[-1][:90]
    return json.loads(run.stdout), ""


CAUSES = ("multiply", "reduce", "elementwise", "move", "exchange", "barriers")


def where(result):
    """Shares of the cycles: of the last tile's vertices by what they are there for, of transfers and of barriers."""
    causes = result["attribution"]["causes"]
    spent = [sum(device[causes.index(cause)] for device in result["attribution"]["devices"]) for cause in CAUSES]
    total = result["cycles"] * len(result["attribution"]["devices"])
    return " | ".join(f"{cycles / total:.0%}" for cycles in spent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", default="bow-ipu")
    parser.add_argument("--largest", type=int, default=8192)
    arguments = parser.parse_args()
    print("| product | second matrix | sums | cycles | TFLOP/s | of peak | "
          + " | ".join(CAUSES) + " |\n" + "|---" * 12 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for size in (512, 1024, 2048, 4096, 8192):
            if size > arguments.largest:
                break
            for constant in (False, True):
                path = os.path.join(folder, "product.onnx")
                product(size, constant, path)
                for precision, sums in (("f16", "f32"), ("f16.f16", "f16")):
                    result, error = profile(path, arguments.machine, "--precision", precision)
                    row = f"| {size} | {'constant' if constant else 'given'} | {sums} |"
                    if result is None:
                        print(f"{row} {error} | | | | | | | | |")
                        continue
                    seconds = result["device_s"]
                    rate = 2 * size**3 / seconds
                    print(f"{row} {result['cycles']:,} | {rate / 1e12:.1f} | "
                          f"{rate / result['figures']['peak_operations_per_s']:.1%} | {where(result)} |", flush=True)
    model = os.path.join(ROOT, "build/models/resnet50.onnx")
    print("\n| ResNet-50 | sums | cycles | of them convolutions | TFLOP/s of these | of peak | "
          + " | ".join(CAUSES) + " |\n" + "|---" * 12 + "|")
    for batch in (1, 4, 16):
        for precision, sums in (("f16", "f32"), ("f16.f16", "f16")):
            result, error = profile(model, arguments.machine, "--precision", precision, "--batch", str(batch))
            if result is None:
                print(f"| {batch} | {sums} | {error} | | | | | | | | | |")
                continue
            kinds = [kernel["kind"] for kernel in result["kernels"]]
            cycles = sum(sum(share["cycles"]) for share in result["attribution"]["kernels"]
                         if share["kernel"] is not None and kinds[share["kernel"]] == "Conv")
            rate = batch * 8.2e9 / (cycles / result["clock_hz"])
            print(f"| batch {batch} | {sums} | {result['cycles']:,} | {cycles:,} | {rate / 1e12:.1f} | "
                  f"{rate / result['figures']['peak_operations_per_s']:.1%} | {where(result)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
