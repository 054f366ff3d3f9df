#!/usr/bin/env python3
"""matmul [N ...]: the share of the matrix unit's peak that [2304 x 4096] x [4096 x N] of f16 has on Groq's card.

Abts et al., "A Software-defined Tensor Streaming Multiprocessor" (ISCA 2022) give at least 80 % for N = 1376 to 3500. The
share is multiply-accumulates of the product over those that all units could have done in the cycles of the program;
"tiles" is what is left of it when columns are rounded up to tiles of 320 and rows of weights to tiles of 160.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))
ROWS, DEPTH = 2304, 4096
UNITS, TILE_ROWS, TILE_COLUMNS = 2, 160, 320  # machines/groqcard.yaml: mxm.f16_units, f16_rows, f16_columns


def cycles_of(columns, folder):
    """The cycles of the program for the product with so many columns."""
    weights = np.random.default_rng(columns).standard_normal((DEPTH, columns)).astype(np.float16)
    kind = onnx.TensorProto.FLOAT16
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "matmul",
                              [helper.make_tensor_value_info("x", kind, (ROWS, DEPTH))],
                              [helper.make_tensor_value_info("y", kind, (ROWS, columns))],
                              [numpy_helper.from_array(weights, "w")])
    path = pathlib.Path(folder) / f"matmul_{columns}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    done = subprocess.run([QUADRILLE, "profile", path, "--machine", "groqcard", "--json"], check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout)["cycles"]


def share_of(columns, cycles):
    return ROWS * DEPTH * columns / (UNITS * TILE_ROWS * TILE_COLUMNS * cycles)


def share_of_tiles(columns):
    deep, wide = -(-DEPTH // TILE_ROWS), -(-columns // TILE_COLUMNS)
    return DEPTH * columns / (deep * TILE_ROWS * wide * TILE_COLUMNS)


def main():
    print("   N   cycles  share  tiles")
    with tempfile.TemporaryDirectory() as folder:
        for columns in [int(text) for text in sys.argv[1:]] or [1376, 1601, 2048, 3500]:
            cycles = cycles_of(columns, folder)
            print(f"{columns:4d}  {cycles:7d}  {share_of(columns, cycles):5.1%}  {share_of_tiles(columns):5.1%}")


if __name__ == "__main__":
    main()
