"""The models beside the hand-written programs of examples/tsp: what `quadrille run NAME.qdl --check` compares with.

Usage: tsp_example_models.py [FOLDER]   (default: examples/tsp)

A program names its model with the hash of the file's bytes, so a model that is changed here needs a new hash in the
program's `.model` line; `quadrille compile` and `disasm` of the model print it.
"""

import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples/tsp"
I8, U8, I32, I64, F16, F32 = (
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.FLOAT16,
    TensorProto.FLOAT,
)


def model(name, nodes, inputs, outputs, constants=(), opset=17):
    """Inputs and outputs as (name, type, shape), constants as (name, array)."""
    values = [[helper.make_tensor_value_info(*each) for each in group] for group in (inputs, outputs)]
    initialisers = [numpy_helper.from_array(array, label) for label, array in constants]
    graph = helper.make_graph(nodes, name, *values, initializer=initialisers)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, producer_name="quadrille-example", opset_imports=opsets, ir_version=5 if opset == 10 else 8)


def bit_reversed(bits):
    return np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)], dtype=np.int64)


def models():
    node = helper.make_node
    return [
        model("copy", [node("Identity", ["X"], ["Y"], "copy")], [("X", I8, [8, 320])], [("Y", I8, [8, 320])]),
        model(
            "vector_add",
            [node("Add", ["A", "B"], ["C"], "add")],
            [("A", F16, [8, 320]), ("B", F16, [8, 320])],
            [("C", F16, [8, 320])],
        ),
        model(
            "activation",
            [
                node("Mul", ["x", "s"], ["scaled"], "scale"),
                node("Add", ["scaled", "b"], ["shifted"], "bias"),
                node("Relu", ["shifted"], ["positive"], "relu"),
                node("Tanh", ["positive"], ["y"], "tanh"),
            ],
            [("x", F32, [8, 320]), ("s", F32, [320]), ("b", F32, [320])],
            [("y", F32, [8, 320])],
        ),
        model(
            "matmul",
            [node("MatMulInteger", ["A", "B"], ["C"], "matmul")],
            [("A", I8, [53, 128]), ("B", I8, [128, 64])],
            [("C", I32, [53, 64])],
            opset=10,
        ),
        model(
            "requantise",
            [
                node("Cast", ["x"], ["real"], "cast", to=F32),
                node("Mul", ["real", "s"], ["scaled"], "scale"),
                node("QuantizeLinear", ["scaled", "one", "zero"], ["y"], "quantise"),
            ],
            [("x", I32, [8, 320]), ("s", F32, [320])],
            [("y", I8, [8, 320])],
            [("one", np.array(1, np.float32)), ("zero", np.array(0, np.int8))],
        ),
        model(
            "transpose",
            [node("Transpose", ["X"], ["Y"], "transpose", perm=[1, 0])],
            [("X", I8, [64, 320])],
            [("Y", I8, [320, 64])],
        ),
        model(
            "reduction",
            [node("ReduceMax", ["X"], ["Y"], "maximum", axes=[1], keepdims=0)],
            [("X", I8, [32, 320])],
            [("Y", I8, [32])],
        ),
        model(
            "softmax",
            [node("Softmax", ["x"], ["y"], "softmax", axis=1)],
            [("x", F32, [320, 8])],
            [("y", F32, [320, 8])],
        ),
        model(
            "gather",
            [
                node("Cast", ["code"], ["index"], "cast", to=I64),
                node("Unsqueeze", ["index", "last"], ["column"], "unsqueeze"),
                node("Expand", ["column", "shape"], ["indices"], "expand"),
                node("GatherElements", ["book", "indices"], ["y"], "gather", axis=0),
            ],
            [("book", F16, [256, 20, 16]), ("code", U8, [16, 20])],
            [("y", F16, [16, 20, 16])],
            [("last", np.array([2], np.int64)), ("shape", np.array([16, 20, 16], np.int64))],
        ),
        model(
            "two_chips",
            [node("Add", ["A", "B"], ["S"], "sum"), node("Sub", ["A", "B"], ["D"], "difference")],
            [("A", I8, [4, 320]), ("B", I8, [4, 320])],
            [("S", I8, [4, 320]), ("D", I8, [4, 320])],
        ),
        model(
            "fetch",
            [node("Gather", ["X", "order"], ["Y"], "reorder", axis=0)],
            [("X", I8, [128, 320])],
            [("Y", I8, [128, 320])],
            [("order", bit_reversed(7))],
        ),
    ]


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES
    for each in models():
        (folder / f"{each.graph.name}.onnx").write_bytes(each.SerializeToString())


if __name__ == "__main__":
    main()
