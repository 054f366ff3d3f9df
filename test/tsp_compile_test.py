"""Models that the compiler for the tensor streaming processor makes into programs, against numpy."""

import os
import pathlib
import re
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))


def run(path, machine, nodes, x, y_shape, constants=(), y_kind=None):
    """The result of a model of one input x and one output y, and the cycles that it takes."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    y_kind = helper.np_dtype_to_tensor_dtype(np.dtype(y_kind)) if y_kind else kind
    graph = helper.make_graph(nodes, "model", [helper.make_tensor_value_info("x", kind, x.shape)],
                              [helper.make_tensor_value_info("y", y_kind, y_shape)],
                              [numpy_helper.from_array(value, name) for name, value in constants])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    np.savez(path / "x.npz", x=x)
    done = subprocess.run([QUADRILLE, "run", path / "model.onnx", "--machine", machine, "--input", path / "x.npz",
                           "--output", path / "y.npz"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    cycles = int(re.search(r"device +(\d+) cycles", done.stdout).group(1))
    return np.load(path / "y.npz")["y"], cycles


def numbers(shape, kind, seed=1):
    values = np.random.default_rng(seed).integers(-99, 99, shape)
    return np.abs(values).astype(kind) if np.dtype(kind).kind == "u" else values.astype(kind)


# Rows that do not fill a superlane's lanes, columns that do not fill superlanes or a vector, more than one vector, other
# axes besides: whole numbers, whose sums are exact in every order.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("operation, shape, axes, kind", [
    ("ReduceSum", (19, 40), (1,), "float32"),
    ("ReduceSum", (33, 320), (1,), "float32"),
    ("ReduceMax", (5, 700), (1,), "float32"),
    ("ReduceMin", (48, 40), (1,), "int32"),
    ("ReduceMax", (48, 40), (1,), "float16"),
    ("ReduceMax", (17, 40), (1,), "uint8"),
    ("ReduceSum", (2, 3, 16, 100), (1, 3), "float32"),
    ("ReduceSum", (2, 17, 20), (2,), "int32"),
    ("ReduceSum", (500,), (0,), "float32"),
    ("ReduceSum", (70, 16), (1,), "float32"),
    ("ReduceMax", (330, 112), (1,), "float16"),
])
def test_reductions_over_lanes(tmp_path, machine, operation, shape, axes, kind):
    x = numbers(shape, kind)
    right = {"ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}[operation](x, axis=axes)
    node = helper.make_node(operation, ["x", "axes"], ["y"], keepdims=0)
    y, _ = run(tmp_path, machine, [node], x, right.shape, [("axes", np.array(axes))])
    np.testing.assert_array_equal(y, right)


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_what_few_lanes_give_reaches_all(tmp_path, machine):
    """The sums of 20 columns are made in 2 superlanes and are wanted beside 300 other columns."""
    x = np.random.default_rng(5).integers(-99, 99, (40, 320)).astype(np.float32)
    nodes = [helper.make_node("Split", ["x", "parts"], ["a", "b"], axis=1),
             helper.make_node("ReduceSum", ["a", "axes"], ["sum"], keepdims=1),
             helper.make_node("Add", ["sum", "b"], ["y"])]
    y, _ = run(tmp_path, machine, nodes, x, (40, 300), [("parts", np.array([20, 300])), ("axes", np.array([1]))])
    np.testing.assert_array_equal(y, x[:, :20].sum(axis=1, keepdims=True) + x[:, 20:])


# The numerator waits for its own denominator: units pass it on, more than one chain has on some machines.
def test_tiles_follow_each_other(tmp_path):
    """Half of 768 rows for each of the card's two units of f16, through 20 tiles of 160 rows: 7,680 cycles. Between two
    tiles are a few cycles; before the first and behind the last about 150, and the one unit writes its 384 sums behind
    the other. Were a tile installed only when all products of the one before it are added, it would be 300 more."""
    x = np.random.default_rng(1).integers(-4, 4, (768, 3200)).astype(np.float16)
    w = np.random.default_rng(2).integers(-4, 4, (3200, 320)).astype(np.float16)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    y, cycles = run(tmp_path, "groqcard", nodes, x, (768, 320), [("w", w)])
    np.testing.assert_array_equal(y, (x.astype(np.float32) @ w.astype(np.float32)).astype(np.float16))
    assert cycles < 20 * (384 + 5) + 150 + 384


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_a_value_needed_twice_at_different_times(tmp_path, machine):
    x = np.random.default_rng(3).uniform(-4, 4, (3, 40)).astype(np.float32)
    nodes = [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Add", ["a", "one"], ["b"]),
             helper.make_node("Div", ["x", "b"], ["y"])]
    y, _ = run(tmp_path, machine, nodes, x, x.shape, [("one", np.float32(1))])
    np.testing.assert_allclose(y, x / (1 + np.abs(x)), rtol=1e-6)


def test_softmax_and_normalisation_cost_a_few_passes(tmp_path):
    """128 rows of 128: far below an element at a time, which would be 16384 cycles for one operation."""
    x = np.random.default_rng(2).standard_normal((128, 128)).astype(np.float32)
    y, cycles = run(tmp_path, "groqcard", [helper.make_node("Softmax", ["x"], ["y"], axis=-1)], x, x.shape)
    right = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(y, right / right.sum(axis=1, keepdims=True), rtol=1e-5)
    assert cycles < 2000
    scale, bias = np.linspace(0.5, 2, 128, dtype=np.float32), np.linspace(-1, 1, 128, dtype=np.float32)
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1)
    y, cycles = run(tmp_path, "groqcard", [node], x, x.shape, [("scale", scale), ("bias", bias)])
    right = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * scale + bias
    np.testing.assert_allclose(y, right, rtol=1e-4, atol=1e-5)
    assert cycles < 2500


def test_softmax_of_many_pairs_costs_a_few_passes(tmp_path):
    """5000 rows of 2, more than a bank has words: far below some cycles for each row of each byte."""
    x = np.random.default_rng(2).standard_normal((5000, 2)).astype(np.float32)
    y, cycles = run(tmp_path, "groqcard", [helper.make_node("Softmax", ["x"], ["y"], axis=-1)], x, x.shape)
    right = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(y, right / right.sum(axis=1, keepdims=True), rtol=1e-5)
    assert cycles < 60000


# More columns than a vector has lanes: as many vectors are combined, and then their lanes. More rows than a bank has
# words; a few lanes of very many rows; everything at once.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("operation, shape, axes, kind", [
    ("ReduceSum", (3, 1600), (1,), "float32"),
    ("ReduceMax", (40, 4096), (1,), "float16"),
    ("ReduceMin", (1, 5000), (1,), "int32"),
    ("ReduceSum", (5000, 20), (0,), "float32"),
    ("ReduceMax", (2, 3000, 33), (1,), "uint8"),
    ("ReduceSum", (2, 3000, 3), (1, 2), "float32"),
    ("ReduceSum", (70, 100), (0, 1), "int32"),
    ("ReduceSumSquare", (7, 1100), (1,), "float32"),
])
def test_long_reductions(tmp_path, machine, operation, shape, axes, kind):
    x = numbers(shape, kind)
    right = {"ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min,
             "ReduceSumSquare": lambda x, axis: (x * x).sum(axis=axis)}[operation](x, axis=axes)
    node = helper.make_node(operation, ["x", "axes"], ["y"], keepdims=0)
    y, _ = run(tmp_path, machine, [node], x, right.shape, [("axes", np.array(axes))])
    np.testing.assert_array_equal(y, right)


def test_a_maximum_of_very_many_rows(tmp_path):
    """A cycle a row, and a second or two of compilation, which has not the square of the rows to look at."""
    x = numbers((30000, 33), "float32")
    start = time.monotonic()
    y, cycles = run(tmp_path, "groqcard", [helper.make_node("ReduceMax", ["x", "axes"], ["y"], keepdims=0)], x, (33,),
                    [("axes", np.array([0]))])
    np.testing.assert_array_equal(y, x.max(axis=0))
    assert cycles < 30000 + 100
    assert time.monotonic() - start < 40


@pytest.mark.parametrize("operation, shape", [("ReduceSum", (7, 5003, 33)), ("ReduceMax", (5003, 7, 100))])
def test_reductions_over_lanes_of_very_many_rows(tmp_path, operation, shape):
    """Of more rows than the slices of both hemispheres hold spread: block by block."""
    x = numbers(shape, "float32")
    right = (np.sum if operation == "ReduceSum" else np.max)(x, axis=-1)
    y, _ = run(tmp_path, "groqcard", [helper.make_node(operation, ["x", "axes"], ["y"], keepdims=0)], x, right.shape,
               [("axes", np.array([-1]))])
    np.testing.assert_array_equal(y, right)


def test_long_softmax_and_normalisation(tmp_path):
    x = np.random.default_rng(2).standard_normal((16, 2048)).astype(np.float32)
    y, cycles = run(tmp_path, "groqcard", [helper.make_node("Softmax", ["x"], ["y"], axis=-1)], x, x.shape)
    right = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(y, right / right.sum(axis=1, keepdims=True), rtol=1e-5)
    assert cycles < 2500
    x = np.random.default_rng(3).standard_normal((16, 4096)).astype(np.float32)
    scale, bias = np.linspace(0.5, 2, 4096, dtype=np.float32), np.linspace(-1, 1, 4096, dtype=np.float32)
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1)
    y, cycles = run(tmp_path, "groqcard", [node], x, x.shape, [("scale", scale), ("bias", bias)])
    right = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * scale + bias
    np.testing.assert_allclose(y, right, rtol=1e-4, atol=1e-5)
    assert cycles < 3000


@pytest.mark.parametrize("machine, shape", [("unit-tsp", (3, 700)), ("groqcard", (2, 5000)), ("groqcard", (1, 50257))])
@pytest.mark.parametrize("last", [0, 1])
def test_where_the_largest_of_many_is(tmp_path, machine, shape, last):
    """Whole numbers, of which many are the largest: the first or the last of them."""
    x = numbers(shape, "float32")
    node = helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0, select_last_index=last)
    y, _ = run(tmp_path, machine, [node, helper.make_node("Cast", ["i"], ["y"], to=onnx.TensorProto.FLOAT)], x,
               shape[:1])
    right = shape[1] - 1 - x[:, ::-1].argmax(axis=1) if last else x.argmax(axis=1)
    np.testing.assert_array_equal(y, right)


# Over rows a running result goes to and fro between two units: a cycle a row. Fewer rows than there are running results,
# rows of several results, rows that do not lie at equal distances.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("operation, shape, axes, kind", [
    ("ReduceSum", (128, 128), (0,), "float32"),
    ("ReduceMax", (31, 700), (0,), "float32"),
    ("ReduceMin", (3, 29, 20), (1,), "int32"),
    ("ReduceSum", (5, 3, 7, 20), (0, 2), "float32"),
    ("ReduceSumSquare", (64, 20), (0,), "float32"),
    ("ReduceMax", (40, 33), (0,), "uint8"),
    ("ReduceSum", (2, 20), (0,), "int32"),
])
def test_reductions_over_rows(tmp_path, machine, operation, shape, axes, kind):
    x = numbers(shape, kind)
    right = {"ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min,
             "ReduceSumSquare": lambda x, axis: (x * x).sum(axis=axis)}[operation](x, axis=axes)
    node = helper.make_node(operation, ["x", "axes"], ["y"], keepdims=0)
    y, cycles = run(tmp_path, machine, [node], x, right.shape, [("axes", np.array(axes))])
    np.testing.assert_array_equal(y, right)
    # 128 rows, the way there and back, and once more for the three running results; another 20 for the superlanes.
    if (machine, shape) == ("groqcard", (128, 128)):
        assert cycles < 128 + 60


# More rows than lanes and more columns, neither a multiple of a superlane; several matrices; heads of an attention,
# whole superlanes and not; vectors beside each other. A byte, two and four.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("kind", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("shape, reshaped, order, result", [
    ((70, 100), (70, 100), (1, 0), (100, 70)),
    ((400, 350), (400, 350), (1, 0), (350, 400)),
    ((3, 20, 33), (3, 20, 33), (0, 2, 1), (3, 33, 20)),
    ((3, 20, 33), (3, 20, 33), (2, 0, 1), (33, 3, 20)),
    ((24, 64), (24, 2, 32), (1, 0, 2), (2, 24, 32)),
    ((24, 64), (24, 2, 32), (1, 2, 0), (2, 32, 24)),
    ((24, 60), (24, 3, 20), (1, 0, 2), (3, 24, 20)),
    ((2, 24, 32), (2, 24, 32), (1, 0, 2), (24, 64)),
])
def test_moves(tmp_path, machine, kind, shape, reshaped, order, result):
    x = np.random.default_rng(3).integers(-99, 99, shape).astype(kind)
    nodes = [helper.make_node("Reshape", ["x", "split"], ["a"]), helper.make_node("Transpose", ["a"], ["b"], perm=order),
             helper.make_node("Reshape", ["b", "merged"], ["y"])]
    y, _ = run(tmp_path, machine, nodes, x, result, [("split", np.array(reshaped)), ("merged", np.array(result))])
    np.testing.assert_array_equal(y, x.reshape(reshaped).transpose(order).reshape(result))


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_slices_and_padding_within_lanes(tmp_path, machine):
    x = np.random.default_rng(4).integers(-99, 99, (30, 50)).astype(np.float32)
    nodes = [helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["a"]),
             helper.make_node("Pad", ["a", "pads", "value"], ["y"])]
    y, _ = run(tmp_path, machine, nodes, x, (32, 46),
               [("starts", np.array([5])), ("ends", np.array([45])), ("axes", np.array([1])),
                ("pads", np.array([2, 5, 0, 1])), ("value", np.array(7, np.float32))])
    np.testing.assert_array_equal(y, np.pad(x[:, 5:45], ((2, 0), (5, 1)), constant_values=7))


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_superlanes_of_more_vectors_than_a_bank_holds(tmp_path, machine):
    """Vectors are gathered from two others: of 5000 rows twice what a bank of groqcard has words for."""
    x = np.random.default_rng(4).integers(-99, 99, (5000, 32)).astype(np.float16)
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Concat", ["a", "x", "a"], ["y"], axis=1)]
    y, _ = run(tmp_path, machine, nodes, x, (5000, 96))
    np.testing.assert_array_equal(y, np.concatenate([-x, x, -x], axis=1))


# Products read what lies side by side as parts: more channels than a tile has rows, less, and parts of different widths; two
# readers of one concatenation. Whole numbers, whose sums f32 holds exactly.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_convolutions_of_concatenated_channels(tmp_path, machine):
    random = np.random.default_rng(7)
    x = random.integers(-9, 9, (1, 40, 6, 5)).astype(np.float32)
    w, v = random.integers(-3, 3, (7, 120, 3, 3)).astype(np.float32), random.integers(-3, 3, (7, 120, 1, 1)).astype(np.float32)
    b = random.integers(-9, 9, 7).astype(np.float32)
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["s"]),
             helper.make_node("Concat", ["x", "n", "s", "n"], ["c"], axis=1),
             helper.make_node("Conv", ["c", "w", "b"], ["p"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["p"], ["r"]),
             helper.make_node("Conv", ["c", "v"], ["q"]), helper.make_node("Add", ["r", "q"], ["y"])]
    w, v = (np.pad(each, ((0, 0), (0, 3), (0, 0), (0, 0)), constant_values=2) for each in (w, v)) # 40 + 40 + 3 + 40
    y, _ = run(tmp_path, machine, nodes, x, (1, 7, 6, 5),
               [("w", w), ("v", v), ("b", b), ("starts", np.array([11])), ("ends", np.array([14])), ("axes", np.array([1]))])
    c = np.concatenate([x, -x, x[:, 11:14], -x], axis=1)[0]
    padded = np.pad(c, ((0, 0), (1, 1), (1, 1)))
    p = sum(np.einsum("oc,chw->ohw", w[:, :, i, j], padded[:, i:i + 6, j:j + 5]) for i in range(3) for j in range(3))
    right = np.maximum(p + b[:, None, None], 0) + np.einsum("oc,chw->ohw", v[:, :, 0, 0], c)
    np.testing.assert_array_equal(y[0], right)


# Channels that do not mix: some in a vector beside others, one for every lane, more than lanes; strides, dilations, a
# filter as large as the image; values that must lie otherwise. Whole numbers, whose sums are exact.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("channels, size, kernel, stride, dilation, pad", [
    (5, (8, 12), 3, 1, 1, 1), (32, (9, 8), 3, 2, 1, 1), (320, (5, 5), 3, 1, 1, 1), (350, (4, 6), 3, 2, 1, 0),
    (24, (8, 8), 5, 1, 2, 4), (16, (7, 7), 7, 1, 1, 0),
])
def test_convolutions_of_channels_apart(tmp_path, machine, channels, size, kernel, stride, dilation, pad):
    random = np.random.default_rng(9)
    x = random.integers(-9, 9, (1, channels, *size)).astype(np.float32)
    w = random.integers(-3, 3, (channels, 1, kernel, kernel)).astype(np.float32)
    b = random.integers(-9, 9, channels).astype(np.float32)
    places = [(each + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for each in size]
    padded = np.pad(x[0], ((0, 0), (pad, pad), (pad, pad)))
    right = np.zeros((channels, *places), np.float32) + b[:, None, None]
    for i in range(kernel):
        for j in range(kernel):
            right += w[:, 0, i, j][:, None, None] * padded[:, i * dilation:i * dilation + stride * (places[0] - 1) + 1:stride,
                                                           j * dilation:j * dilation + stride * (places[1] - 1) + 1:stride]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["p"], group=channels, strides=[stride] * 2, dilations=[dilation] * 2,
                              pads=[pad] * 4),
             helper.make_node("Relu", ["p"], ["y"])]
    y, _ = run(tmp_path, machine, nodes, x, (1, *right.shape), [("w", w), ("b", b)])
    np.testing.assert_array_equal(y[0], np.maximum(right, 0))
    if channels > 32: # elements move in too many ways for the smaller machine
        return
    nodes[1] = helper.make_node("Reshape", ["p", "flat"], ["y"])
    y, _ = run(tmp_path, machine, nodes, x, (1, right.size), [("w", w), ("b", b), ("flat", np.array([1, right.size]))])
    np.testing.assert_array_equal(y, right.reshape(1, -1))


def test_queues_have_their_instructions_where_rows_change_often(tmp_path):
    """Images of 224 rows, each of a few vectors: many runs of rows, without a cycle for a fetch between them."""
    random = np.random.default_rng(10)
    x = random.integers(-9, 9, (1, 3, 224, 224)).astype(np.float32)
    w = random.integers(-1, 2, (32, 3, 3, 3)).astype(np.float32)
    v = random.integers(-1, 2, (32, 1, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"], strides=[2, 2], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["p"], ["q"]),
             helper.make_node("Conv", ["q", "v"], ["y"], group=32)]
    y, cycles = run(tmp_path, "groqcard", nodes, x, (1, 32, 112, 112), [("w", w), ("v", v)])
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    right = sum(np.einsum("oc,chw->ohw", w[:, :, i, j], padded[:, i:i + 223:2, j:j + 223:2]) for i in range(3) for j in range(3))
    np.testing.assert_array_equal(y[0], np.maximum(right, 0) * v[:, :, 0])


# Depth to space: channels that become places, of several rows and columns; in the order of blocks and of channels.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("channels, rows, columns", [(1, 3, 3), (1, 2, 4), (5, 2, 2)])
def test_channels_become_places(tmp_path, machine, channels, rows, columns):
    random = np.random.default_rng(11)
    x = random.integers(-9, 9, (1, 7, 6, 10)).astype(np.float32)
    w = random.integers(-3, 3, (channels * rows * columns, 7, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"]), helper.make_node("Reshape", ["p", "split"], ["s"]),
             helper.make_node("Transpose", ["s"], ["t"], perm=[0, 1, 4, 2, 5, 3]),
             helper.make_node("Reshape", ["t", "merged"], ["y"])]
    shape = (1, channels, 6 * rows, 10 * columns)
    y, _ = run(tmp_path, machine, nodes, x, shape,
               [("w", w), ("split", np.array([1, channels, rows, columns, 6, 10])), ("merged", np.array(shape))])
    p = np.einsum("oc,chw->ohw", w[:, :, 0, 0], x[0]).reshape(channels, rows, columns, 6, 10)
    np.testing.assert_array_equal(y, p.transpose(0, 3, 1, 4, 2).reshape(shape))


# Blocks that do not overlap, with a bias; and what reads them, which sees several places in a vector.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("strides", [(2, 2), (3, 1), (1, 4)])
def test_transposed_convolutions_of_blocks(tmp_path, machine, strides):
    random = np.random.default_rng(12)
    x = random.integers(-9, 9, (1, 24, 5, 8)).astype(np.float32)
    w = random.integers(-3, 3, (24, 10, *strides)).astype(np.float32)
    b = random.integers(-9, 9, 10).astype(np.float32)
    v = random.integers(-3, 3, (6, 10, 3, 3)).astype(np.float32)
    shape = (10, 5 * strides[0], 8 * strides[1])
    nodes = [helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], strides=strides)]
    right = np.einsum("chw,cmij->mhiwj", x[0], w).reshape(shape) + b[:, None, None]
    y, _ = run(tmp_path, machine, nodes, x, (1, *shape), [("w", w), ("b", b)])
    np.testing.assert_array_equal(y[0], right)
    # Read in f16, which holds whole numbers below 2048.
    right = np.clip(right, -99, 99)
    nodes = [helper.make_node("ConvTranspose", ["x", "w", "b"], ["p"], strides=strides),
             helper.make_node("Clip", ["p", "low", "high"], ["q"]), helper.make_node("Conv", ["q", "v"], ["y"], pads=[1, 1, 1, 1])]
    y, _ = run(tmp_path, machine, nodes, x, (1, 6, *shape[1:]),
               [("w", w), ("b", b), ("v", v), ("low", np.float32(-99)), ("high", np.float32(99))])
    padded = np.pad(right, ((0, 0), (1, 1), (1, 1)))
    right = sum(np.einsum("oc,chw->ohw", v[:, :, i, j], padded[:, i:i + shape[1], j:j + shape[2]]) for i in range(3) for j in range(3))
    np.testing.assert_array_equal(y[0], right)


# Maxima of windows side by side, between convolutions of few channels: several places share a vector. And windows that
# overlap or are padded, which are taken otherwise.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("window, strides, pads", [
    ((2, 2), (2, 2), (0, 0, 0, 0)), ((3, 1), (3, 1), (0, 0, 0, 0)), ((1, 4), (1, 4), (0, 0, 0, 0)),
    ((3, 3), (2, 2), (1, 1, 1, 1)), ((2, 2), (1, 1), (0, 0, 0, 0)),
])
def test_maximum_pooling_of_few_channels(tmp_path, machine, window, strides, pads):
    random = np.random.default_rng(13)
    x = random.integers(-9, 9, (1, 5, 12, 16)).astype(np.float32)
    w = random.integers(-3, 3, (6, 5, 1, 1)).astype(np.float32)
    v = random.integers(-3, 3, (7, 6, 1, 1)).astype(np.float32)
    p = np.einsum("oc,chw->ohw", w[:, :, 0, 0], x[0])
    padded = np.pad(p, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=-np.inf)
    rows, columns = ((padded.shape[1 + d] - window[d]) // strides[d] + 1 for d in (0, 1))
    pooled = np.max([padded[:, i:i + strides[0] * (rows - 1) + 1:strides[0], j:j + strides[1] * (columns - 1) + 1:strides[1]]
                     for i in range(window[0]) for j in range(window[1])], axis=0)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"]),
             helper.make_node("MaxPool", ["p"], ["q"], kernel_shape=window, strides=strides, pads=pads),
             helper.make_node("Conv", ["q", "v"], ["y"])]
    y, _ = run(tmp_path, machine, nodes, x, (1, 7, rows, columns), [("w", w), ("v", v)])
    np.testing.assert_array_equal(y[0], np.einsum("oc,chw->ohw", v[:, :, 0, 0], pooled))


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_images_for_channels_apart_keep_their_digits(tmp_path, machine):
    """Differences of numbers that f16, which has 11 digits, would round away before they are taken."""
    x = np.ones((1, 2, 8, 8), np.float32)
    x[0, 0] += np.arange(64).reshape(8, 8) * 2.0**-13
    w = np.array([[1, -1], [2, -2], [-1, 1]], np.float32).reshape(3, 2, 1, 1)
    v = np.array([1, 2, 4], np.float32).reshape(3, 1, 1, 1)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"]), helper.make_node("Conv", ["p", "v"], ["y"], group=3)]
    y, _ = run(tmp_path, machine, nodes, x, (1, 3, 8, 8), [("w", w), ("v", v)])
    np.testing.assert_array_equal(y[0], np.einsum("oc,chw->ohw", w[:, :, 0, 0] * v[:, :, 0, 0], x[0]))


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_images_for_channels_apart_may_be_twice_what_f16_has(tmp_path, machine):
    """Up to 131,008: what is beyond f16's largest number, 65,504, is in the other part. It was not a number."""
    x = np.full((1, 2, 8, 8), 2 * 65504 - 128, np.float32)
    x[0, 0] = 2 * 65504 - 64 * np.arange(64).reshape(8, 8)
    x[0, :, 4:] *= -1
    w = np.array([[1, -1], [2, -2], [-1, 1]], np.float32).reshape(3, 2, 1, 1) / 64
    v = np.array([1, 2, 4], np.float32).reshape(3, 1, 1, 1)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"]), helper.make_node("Conv", ["p", "v"], ["y"], group=3)]
    y, _ = run(tmp_path, machine, nodes, x, (1, 3, 8, 8), [("w", w), ("v", v)])
    np.testing.assert_array_equal(y[0], np.einsum("oc,chw->ohw", w[:, :, 0, 0] * v[:, :, 0, 0], x[0]))


# The patches of a vision transformer: places become one dimension, and channels come last; a dimension of one besides.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_patches_of_an_image(tmp_path, machine):
    random = np.random.default_rng(8)
    x = random.integers(-9, 9, (2, 3, 32, 48)).astype(np.float32)
    w = random.integers(-3, 3, (24, 3, 16, 16)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"], strides=[16, 16]),
             helper.make_node("Reshape", ["p", "merged"], ["m"]), helper.make_node("Transpose", ["m"], ["y"], perm=[1, 3, 0, 2])]
    y, cycles = run(tmp_path, machine, nodes, x, (1, 6, 2, 24), [("w", w), ("merged", np.array([2, 1, 24, 6]))])
    patches = x.reshape(2, 3, 2, 16, 3, 16)
    right = np.einsum("bchiwj,ocij->bohw", patches, w).reshape(2, 1, 24, 6).transpose(1, 3, 0, 2)
    np.testing.assert_array_equal(y, right)


# Indices that are computed: rows by memory's own gathers (of one vector, of several, of a table that no bank holds) or by
# comparisons.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("rows, columns, count", [(20, 12, 7), (5, 12, 7), (1000, 400, 30), (9000, 100, 40)])
def test_rows_picked_by_computed_indices(tmp_path, machine, rows, columns, count):
    table = np.random.default_rng(3).standard_normal((rows, columns)).astype(np.float32)
    x = np.random.default_rng(4).integers(-rows, rows, (count,))
    x[:3] = -1, 0, rows - 1
    y, _ = run(tmp_path, machine, [helper.make_node("Gather", ["table", "x"], ["y"], axis=0)], x, (count, columns),
               [("table", table)])
    np.testing.assert_array_equal(y, table[x])


@pytest.mark.parametrize("rows, most", [(30522, 3200), (2, 1100)])
def test_embedding_costs_a_few_passes(tmp_path, rows, most):
    table = np.random.default_rng(3).standard_normal((rows, 128)).astype(np.float32)
    x = np.random.default_rng(4).integers(0, rows, (128,))
    y, cycles = run(tmp_path, "groqcard", [helper.make_node("Gather", ["table", "x"], ["y"], axis=0)], x, (128, 128),
                    [("table", table)])
    np.testing.assert_array_equal(y, table[x])
    assert cycles < most


# Exporters write a flat view, all of its indices and a view again for what only broadcasts: no element moves.
def test_a_gather_of_all_indices_in_order_is_a_view(tmp_path):
    x = np.random.default_rng(4).standard_normal((1, 128)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"], axis=2), helper.make_node("Gather", ["f", "all"], ["g"], axis=0),
             helper.make_node("Reshape", ["g", "shape"], ["v"]), helper.make_node("Neg", ["v"], ["y"])]
    y, cycles = run(tmp_path, "groqcard", nodes, x, (1, 1, 1, 128),
                    [("all", np.arange(128).reshape(1, 1, 1, 128)), ("shape", np.array([1, 1, 1, 128]))])
    np.testing.assert_array_equal(y, -x.reshape(1, 1, 1, 128))
    assert cycles < 60


# The heads of an attention lie side by side in a vector: scaled or not, products read them where they are.
def test_scores_of_heads_move_no_queries(tmp_path):
    random = np.random.default_rng(9)
    x = random.integers(-2, 3, (1, 64, 128)).astype(np.float32)
    q, k = (random.integers(-1, 2, (128, 128)).astype(np.float32) for _ in range(2))
    nodes = [helper.make_node("MatMul", ["x", "q"], ["a"]), helper.make_node("Reshape", ["a", "heads"], ["ah"]),
             helper.make_node("Transpose", ["ah"], ["at"], perm=[0, 2, 1, 3]), helper.make_node("Mul", ["at", "half"], ["as"]),
             helper.make_node("MatMul", ["x", "k"], ["b"]), helper.make_node("Reshape", ["b", "heads"], ["bh"]),
             helper.make_node("Transpose", ["bh"], ["bt"], perm=[0, 2, 3, 1]), helper.make_node("Mul", ["bt", "half"], ["bs"]),
             helper.make_node("MatMul", ["as", "bs"], ["y"])]
    y, cycles = run(tmp_path, "groqcard", nodes, x, (1, 4, 64, 64),
                    [("q", q), ("k", k), ("heads", np.array([1, 64, 4, 32])), ("half", np.float32(0.5))])
    left, right = ((x[0] @ w * 0.5).reshape(64, 4, 32).transpose(1, 0, 2) for w in (q, k))
    np.testing.assert_array_equal(y[0], left @ right.transpose(0, 2, 1))
    assert cycles < 2400


# Rows of the first operand lie in the lanes, where another product reads them, or the same one: they are moved, as tiles
# for each of the 161 would take some hundred cycles.
@pytest.mark.parametrize("itself", [True, False])
def test_products_of_a_matrix_whose_rows_lie_in_the_lanes(tmp_path, itself):
    random = np.random.default_rng(10)
    x, w = (random.integers(-1, 2, shape).astype(np.float32) for shape in ((33, 161), (33, 97)))
    if itself:
        nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), helper.make_node("Relu", ["t"], ["a"]),
                 helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0]), helper.make_node("MatMul", ["a", "b"], ["y"])]
        right = np.maximum(x.T, 0) @ np.maximum(x, 0)
    else:
        nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["t", "w"], ["q"]),
                 helper.make_node("MatMul", ["x", "q"], ["y"])]
        right = x @ (x.T @ w)
    y, cycles = run(tmp_path, "groqcard", nodes, x, right.shape, [] if itself else [("w", w)])
    np.testing.assert_array_equal(y, right)
    assert cycles < 3000


# Means, variances and sums of exponentials by products with ones: as close as sums of f32; of small or large squares and
# far from zero closer than f16.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("columns", [48, 200, 384])
def test_normalizations_keep_their_digits(tmp_path, machine, columns):
    random = np.random.default_rng(10)
    x = random.standard_normal((64, columns))
    x[16:32] *= 1e-3
    x[32:40] *= 1000
    x[40:48] = x[40:48] * 0.1 + 300
    x[48:, 5] = 20000
    x = x.astype(np.float32)
    scale, bias = (random.standard_normal(columns).astype(np.float32) for _ in range(2))
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1, epsilon=1e-8)
    y, _ = run(tmp_path, machine, [node], x, x.shape, [("scale", scale), ("bias", bias)])
    wide = x.astype(np.float64)
    deviation = wide - wide.mean(-1, keepdims=True)
    right = deviation / np.sqrt((deviation ** 2).mean(-1, keepdims=True) + 1e-8)
    error = np.abs(y - (right * scale + bias)).max(-1) / np.abs(scale).max()
    assert error[:16].max() < 2e-6 and error.max() < 5e-4
    x = np.minimum(x, 80)
    y, _ = run(tmp_path, machine, [helper.make_node("Softmax", ["x"], ["y"], axis=-1)], x, x.shape, [])
    wide = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    np.testing.assert_allclose(y, wide / wide.sum(-1, keepdims=True), rtol=1e-5, atol=1e-30)


# Means and variances are there in all lanes as products leave the matrix unit, and what reads them works on them there.
def test_a_layer_normalization_costs_few_passes(tmp_path):
    x = np.random.default_rng(14).standard_normal((128, 128)).astype(np.float32)
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y"], axis=-1)
    y, cycles = run(tmp_path, "groqcard", [node], x, x.shape, [("scale", np.ones(128, np.float32))])
    right = x - x.mean(-1, keepdims=True)
    right /= np.sqrt((right ** 2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-5)
    assert cycles < 1100


# A product divides a softmax's sums out behind it. Rows without a number stay without, or become zeros where the model
# says so, whatever else the product reads.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("cleaned", [False, True])
def test_products_of_a_softmax(tmp_path, machine, cleaned):
    random = np.random.default_rng(12)
    x = random.standard_normal((2, 48, 40)).astype(np.float32) * 4
    x[0, 3] = -np.inf
    x[1, 5, :39] = -np.inf
    x[1, 7, 2] = np.nan
    v = random.standard_normal((2, 40, 24)).astype(np.float32)
    v[1, 0, 0] = np.nan
    nodes = [helper.make_node("Softmax", ["x"], ["p"], axis=-1)]
    if cleaned:
        nodes += [helper.make_node("IsNaN", ["p"], ["none"]), helper.make_node("Where", ["none", "zero", "p"], ["q"])]
    nodes.append(helper.make_node("MatMul", ["q" if cleaned else "p", "v"], ["y"]))
    y, _ = run(tmp_path, machine, nodes, x, (2, 48, 24), [("v", v), ("zero", np.float32(0))])
    with np.errstate(invalid="ignore"):
        p = np.exp(x - x.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        right = p @ v
    if cleaned:
        right[np.isnan(p).any(-1)] = 0
    np.testing.assert_allclose(y, right, rtol=2e-3, atol=2e-3)


# Heads that become one dimension before a product: it sums over heads and what each of them has.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("heads", [(4, 32), (3, 2, 20)])
def test_product_of_merged_heads(tmp_path, machine, heads):
    random = np.random.default_rng(13)
    x = random.integers(-4, 5, (2, 24, *heads)).astype(np.float32)
    depth = int(np.prod(heads))
    w = random.integers(-2, 3, (depth, 40)).astype(np.float32)
    nodes = [helper.make_node("Reshape", ["x", "merged"], ["m"]), helper.make_node("MatMul", ["m", "w"], ["y"])]
    y, _ = run(tmp_path, machine, nodes, x, (2, 24, 40), [("w", w), ("merged", np.array([2, 24, depth]))])
    np.testing.assert_array_equal(y, x.reshape(2, 24, depth) @ w)


def test_sorting_against_numpy(tmp_path):
    x = np.random.default_rng(5).integers(-9, 9, (4, 30)).astype(np.float32)
    y, _ = run(tmp_path, "unit-tsp", [helper.make_node("TopK", ["x", "k"], ["y", "places"], axis=1, largest=0)], x, x.shape,
               [("k", np.array([30]))])
    np.testing.assert_array_equal(y, np.sort(x, axis=1))


# Elements beside the image are the zero point, which is not 0: they add nothing.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_integer_convolution_with_zero_points_and_padding(tmp_path, machine):
    random = np.random.default_rng(6)
    x = random.integers(0, 256, (1, 3, 6, 5)).astype(np.uint8)
    w = random.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    zero_x, zero_w = np.uint8(113), np.int8(-7)
    node = helper.make_node("ConvInteger", ["x", "w", "zx", "zw"], ["q"], pads=[1, 1, 1, 1])
    cast = helper.make_node("Cast", ["q"], ["y"], to=int(onnx.TensorProto.UINT8)) # the result's type is x's in `run`
    y, _ = run(tmp_path, machine, [node, cast], x, (1, 4, 6, 5), [("w", w), ("zx", zero_x), ("zw", zero_w)])
    padded = np.pad(x[0].astype(np.int64) - int(zero_x), ((0, 0), (1, 1), (1, 1)))
    right = np.zeros((1, 4, 6, 5), np.int64)
    for dy in range(3):
        for dx in range(3):
            right[0] += np.einsum("oc,chw->ohw", w[:, :, dy, dx].astype(np.int64) - int(zero_w),
                                  padded[:, dy:dy + 6, dx:dx + 5])
    np.testing.assert_array_equal(y, right.astype(np.uint8))


# Sums over lanes that products make stand in all lanes of a row; elsewhere they are values like any other.
@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("axis, shape", [(1, (1, 128, 1)), (2, (1, 64, 2))])
def test_statistics_of_normalizations_are_joined(tmp_path, machine, axis, shape):
    x = np.random.default_rng(8).standard_normal((1, 64, 128)).astype(np.float32)
    scale, bias = np.ones(128, np.float32), np.zeros(128, np.float32)
    nodes = [helper.make_node("Mul", ["x", "two"], ["x2"]),
             helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["n1", "m1", "i1"], axis=-1),
             helper.make_node("LayerNormalization", ["x2", "scale", "bias"], ["n2", "m2", "i2"], axis=-1),
             helper.make_node("Concat", ["i1", "i2"], ["y"], axis=axis)]
    y, _ = run(tmp_path, machine, nodes, x, shape, [("scale", scale), ("bias", bias), ("two", np.float32(2))])
    inverses = [1 / np.sqrt(z.var(axis=-1, keepdims=True) + 1e-5) for z in (x, 2 * x)]
    np.testing.assert_allclose(y, np.concatenate(inverses, axis=axis), rtol=1e-3)


# Scores of an attention that take a large part of a chip's memory: heads one after the other, the last block with
# fewer; and of one head its rows in blocks.
@pytest.mark.parametrize("heads, rows", [(3, 1300), (1, 2100)])
def test_large_attention_in_blocks(tmp_path, heads, rows):
    size = 32
    x = np.random.default_rng(7).standard_normal((1, rows, 3 * heads * size)).astype(np.float32)
    mask = np.where(np.tril(np.ones((rows, rows))) > 0, 0, -1e4).astype(np.float32)
    nodes = [helper.make_node("Split", ["x"], ["q", "k", "v"], axis=2, num_outputs=3)]
    for name, order in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3))):
        nodes += [helper.make_node("Reshape", [name, "apart"], [name + "1"]),
                  helper.make_node("Transpose", [name + "1"], [name + "2"], perm=order)]
    nodes += [helper.make_node("MatMul", ["q2", "k2"], ["products"]),
              helper.make_node("Mul", ["products", "scale"], ["scaled"]),
              helper.make_node("Add", ["scaled", "mask"], ["masked"]),
              helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
              helper.make_node("MatMul", ["shares", "v2"], ["mixed"]),
              helper.make_node("Transpose", ["mixed"], ["back"], perm=(0, 2, 1, 3)),
              helper.make_node("Reshape", ["back", "together"], ["y"])]
    constants = [("apart", np.array([1, rows, heads, size])), ("together", np.array([1, rows, heads * size])),
                 ("scale", np.float32(size**-0.5)), ("mask", mask)]
    y, _ = run(tmp_path, "groqcard", nodes, x, (1, rows, heads * size),
               [(name, np.asarray(value)) for name, value in constants])
    q, k, v = (part.reshape(rows, heads, size).transpose(1, 0, 2) for part in np.split(x[0].astype(np.float64), 3, 1))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(size) + mask
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    right = (shares / shares.sum(axis=-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(rows, -1)
    assert np.linalg.norm(y[0] - right) < 2e-3 * np.linalg.norm(right)


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
@pytest.mark.parametrize("scales, zeros, kind", [
    ((0.0207131, 0.0133717, 0.0171931), (117, 0, 5), "uint8"),
    ((0.0207131, 0.0133717, 0.0171931), (-3, 10, 0), "int8"),
    ((0.019, 0.0285, 0.0114), (0, 0, 0), "uint8"),  # many sums between two integers: the division stays
])
def test_additions_of_quantised_products(tmp_path, machine, scales, zeros, kind):
    """As in residual networks. The products' own scales are powers of two, so that only the addition rounds."""
    places = 28 if machine == "groqcard" else 4
    generator = np.random.default_rng(7)
    x = generator.integers(0, 255, (1, 64, places, places)).astype(np.uint8)
    weights = [generator.integers(-20, 20, (256, 64, 1, 1)).astype(np.int8) for _ in range(2)]
    zero = [np.array(value, kind) for value in zeros]
    constants = [("fine", np.float32(2 ** -7)), ("coarse", np.float32(2 ** -1)), ("none", np.uint8(0)),
                 ("even", np.int8(0))]
    constants += [(f"scale{i}", np.float32(scale)) for i, scale in enumerate(scales)]
    constants += [(f"zero{i}", value) for i, value in enumerate(zero)]
    nodes = [helper.make_node("DequantizeLinear", ["x", "fine", "none"], ["xf"])]
    terms = []
    for i, weight in enumerate(weights):
        constants.append((f"w{i}", weight))
        nodes += [helper.make_node("DequantizeLinear", [f"w{i}", "fine", "even"], [f"wf{i}"]),
                  helper.make_node("Conv", ["xf", f"wf{i}"], [f"sum{i}"]),
                  helper.make_node("QuantizeLinear", [f"sum{i}", "coarse", f"zero{i}"], [f"q{i}"]),
                  helper.make_node("DequantizeLinear", [f"q{i}", f"scale{i}", f"zero{i}"], [f"term{i}"])]
        sums = np.einsum("oc,ncyx->noyx", weight[:, :, 0, 0].astype(np.int64), x.astype(np.int64)) * 2.0 ** -13
        info = np.iinfo(kind)
        quantised = np.clip(np.rint(sums) + zeros[i], info.min, info.max)
        terms.append((quantised - zeros[i]).astype(np.float32) * np.float32(scales[i]))
    nodes += [helper.make_node("Add", ["term0", "term1"], ["added"]),
              helper.make_node("QuantizeLinear", ["added", "scale2", "zero2"], ["y"])]
    right = np.clip(np.rint((terms[0] + terms[1]) / np.float32(scales[2])) + zeros[2], info.min, info.max)
    y, cycles = run(tmp_path, machine, nodes, x, right.shape, constants, kind)
    np.testing.assert_array_equal(y, right)
    # Two products of 784 vectors and their addition, two vectors in a cycle; with a division some passes more.
    if machine == "groqcard" and scales[0] != 0.019:
        assert cycles < 3000
