"""What fits on a chip of the tensor streaming processor, and what is said of what does not."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from programs import command
from tsp_compile_test import numbers, run


def save(path, nodes, x, y_shape, constants=()):
    """A model of one input x and one output y of the same type."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(x[0]))
    graph = helper.make_graph(nodes, "model", [helper.make_tensor_value_info("x", kind, x[1])],
                              [helper.make_tensor_value_info("y", kind, y_shape)],
                              [numpy_helper.from_array(value, name) for name, value in constants])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def few_words(path, base, words):
    """The machine with so many words in a bank."""
    path.write_text(f"description: few words\nchip: {{name: {base}}}\ndefaults: {{status: assumed, source: test}}\n"
                    f"figures:\n  mem.words_per_bank: {{value: {words}, range: [{words}, {words}]}}\n")
    return path


# More rows than a bank has words, which no number of equal parts divides: a prime, two dimensions of which neither alone can
# be cut into what a bank has, vectors of more lanes than there are.
@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int64", "bool"])
@pytest.mark.parametrize("shape", [(8209, 64), (3, 8209, 64), (5003, 7, 30), (4097, 321), (2, 2, 4099, 9)])
def test_rows_lie_in_segments_of_any_number(tmp_path, kind, shape):
    x = numbers(shape, kind)
    node = helper.make_node("Not" if kind == "bool" else "Neg", ["x"], ["y"])
    y, _ = run(tmp_path, "groqcard", [node], x, shape)
    np.testing.assert_array_equal(y, ~x if kind == "bool" else -x)


def test_outputs_in_segments_are_not_copied(tmp_path):
    """Of 24,627 rows one passes in a cycle; to copy them would take as many again."""
    x = numbers((3, 8209, 64), "float32")
    y, cycles = run(tmp_path, "groqcard", [helper.make_node("Neg", ["x"], ["y"])], x, x.shape)
    np.testing.assert_array_equal(y, -x)
    assert cycles < 1.5 * 3 * 8209


@pytest.mark.parametrize("machine", ["unit-tsp", "groqcard"])
def test_a_vector_longer_than_a_bank_is_refused(tmp_path, machine):
    model = save(tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], ("float32", (2000003,)), (2000003,))
    message = command("compile", model, "--machine", machine, "-o", tmp_path / "m.qdl", code=1)
    assert "no room in the memory of one chip for 1 x 2000003 values of f32" in message
    assert "2147483647" not in message


@pytest.mark.parametrize("words, code", [(16, 1), (33, 1), (64, 0), (150, 0)])
def test_transposition_where_banks_have_few_words(tmp_path, words, code):
    """64 rows, each superlane's from another word of one bank."""
    machine = few_words(tmp_path / "few.yaml", "groqcard", words)
    x = numbers((64, 320), "int8")
    node = helper.make_node("Transpose", ["x"], ["y"])
    if code == 0:
        y, _ = run(tmp_path, machine, [node], x, (320, 64))
        np.testing.assert_array_equal(y, x.T)
        return
    model = save(tmp_path / "m.onnx", [node], ("int8", (64, 320)), (320, 64))
    message = command("compile", model, "--machine", machine, "-o", tmp_path / "m.qdl", code=1)
    assert f"a bank has {words}" in message and "defect" not in message


# Many runs of few rows, with a cycle here and there: what a queue of 32 instructions holds must last until more are there.
@pytest.mark.parametrize("batch, kernel, pad", [(64, 1, 0), (64, 3, 1), (200, 3, 0)])
def test_queues_of_short_buffers_have_their_instructions(tmp_path, batch, kernel, pad):
    random = np.random.default_rng(13)
    x = random.integers(-9, 9, (batch, 24, 8, 13)).astype(np.float32)
    w = random.integers(-3, 3, (24, 1, kernel, kernel)).astype(np.float32)
    places = [each + 2 * pad - kernel + 1 for each in (8, 13)]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    right = sum(w[:, 0, i, j][:, None, None] * padded[:, :, i:i + places[0], j:j + places[1]]
                for i in range(kernel) for j in range(kernel))
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=24, pads=[pad] * 4)
    y, _ = run(tmp_path, "unit-tsp", [node], x, right.shape, [("w", w)])
    np.testing.assert_array_equal(y, right)


def test_a_table_lies_in_what_others_leave_of_the_banks(tmp_path):
    """A table of 24 MiB behind a product whose columns have used a word in most banks: only few are free from end to end."""
    random = np.random.default_rng(14)
    table = random.integers(-99, 99, (40000, 320)).astype(np.float16)
    first, second = np.zeros((8, 320), np.float16), np.zeros((320, 32768), np.float16)
    first[0, 0] = 1
    second[0] = np.arange(32768) % 3
    x = random.integers(-40000, 40000, (8,))
    x[0] = 500
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=onnx.TensorProto.FLOAT16),
             helper.make_node("Reshape", ["c", "row"], ["r"]), helper.make_node("MatMul", ["r", "first"], ["a"]),
             helper.make_node("MatMul", ["a", "second"], ["b"]),
             helper.make_node("ReduceMax", ["b", "axes"], ["m"], keepdims=1),
             helper.make_node("Gather", ["table", "x"], ["g"]), helper.make_node("Add", ["g", "m"], ["y"])]
    y, _ = run(tmp_path, "groqcard", nodes, x, (8, 320),
               [("first", first), ("second", second), ("table", table), ("row", np.array([1, 8])), ("axes", np.array([1]))],
               y_kind="float16")
    np.testing.assert_array_equal(y, table[x] + np.float16(1000))


# Squares are summed by products of f16: of values of f16 whatever they are, of values of f32 up to 46,328. A row with a larger
# one has no numbers for results, never others.
@pytest.mark.parametrize("operation", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("kind, largest, marked", [("float16", 65504, False), ("float32", 46000, False),
                                                   ("float32", 47000, True), ("float32", 1e12, True)])
def test_squares_of_large_values(tmp_path, operation, kind, largest, marked):
    x = np.random.default_rng(15).standard_normal((64, 256))
    x[8:, 0], x[8:, 1] = largest, -0.8 * largest
    x = x.astype(kind)
    scale = np.ones(256, kind)
    graph = helper.make_graph([helper.make_node(operation, ["x", "scale"], ["y"], axis=-1)], "model",
                              [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
                              [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
                              [numpy_helper.from_array(scale, "scale")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=x)
    command("run", tmp_path / "m.onnx", "--machine", "groqcard", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    y = np.load(tmp_path / "y.npz")["y"].astype(np.float64)
    wide = x.astype(np.float64)
    if operation == "LayerNormalization":
        wide = wide - wide.mean(-1, keepdims=True)
    right = wide / np.sqrt((wide ** 2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y[:8], right[:8], rtol=2e-3, atol=2e-3)
    if marked:
        assert np.isnan(y[8:]).all()
    else:
        np.testing.assert_allclose(y[8:], right[8:], rtol=2e-3, atol=1e-6)


def test_weights_lie_in_all_slices_of_a_full_chip(tmp_path):
    """Three products of 960 x 960 halves, 17,280 words of the 20,224 of a chip with banks of 128; of its 79 slices 64 are in
    blocks of 16, which hold 16,384. Lines of a tile begin at addresses of their own."""
    machine = few_words(tmp_path / "few.yaml", "groqcard", 128)
    random = np.random.default_rng(15)
    x = random.integers(-2, 3, (4, 960)).astype(np.float16)
    # A few ones in each row and column: sums of integers stay below 2,048, up to which halves are exact.
    weights = [((random.random((960, 960)) < 4 / 960) * random.choice([-1, 1], (960, 960))).astype(np.float16)
               for _ in range(3)]
    y = x.astype(np.float64)
    for weight in weights:
        y = y @ weight
    assert 0 < np.abs(y).max() < 2048
    nodes = [helper.make_node("MatMul", [a, f"w{i}"], [b]) for i, (a, b) in enumerate([("x", "a"), ("a", "b"), ("b", "y")])]
    constants = [(f"w{i}", weight) for i, weight in enumerate(weights)]
    made, _ = run(tmp_path, machine, nodes, x, y.shape, constants)
    np.testing.assert_array_equal(made, y)
    command("compile", tmp_path / "model.onnx", "--machine", machine, "-o", tmp_path / "m.qdl")
    weights_in_parts = command("disasm", tmp_path / "m.qdl").split(".layout weight")[1:]
    assert any("\n.range dimension=1 begin=" in layout.split(".layout")[0] for layout in weights_in_parts)
