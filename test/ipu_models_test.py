"""Models compiled for Graphcore's IPU: values right, and the same program, values and cycles whoever asks."""

import json
import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from programs import ROOT, agrees_whatever_the_number_of_threads, command


# Options, and the largest relative L2 against the reference: 0 where all arithmetic is exact or the model's own.
MODELS = {
    "models/mnist_pytorch/pytorch.onnx": ([], 1e-3),
    "test/zoo/tiny_resnet_dynamo.onnx": (["--batch", 1], 1e-2),
    "test/zoo/tiny_resnet_int8.onnx": (["--batch", 1], 0),
    "test/zoo/tiny_transformer_torchscript.onnx": (["--batch", 1], 1e-2),
}


@pytest.mark.parametrize("model", MODELS)
def test_model_agrees_whatever_the_number_of_threads(model, tmp_path):
    options, tolerance = MODELS[model]
    agrees_whatever_the_number_of_threads(ROOT / model, "bow-ipu", options, tolerance, tmp_path)


def steps_of(program):
    """The profile's table of steps, as dictionaries."""
    tables = json.loads(command("profile", program, "--json"))["tables"]
    table = next(each for each in tables if each["title"] == "steps")
    return [dict(zip(table["columns"], row)) for row in table["rows"]]


# Stages on IPUs of their own give what one IPU gives; a run follows the one before in less time than it takes.
def test_stages_on_several_ipus(tmp_path):
    model = ROOT / "test/zoo/tiny_transformer_torchscript.onnx"
    outputs = []
    for chips in (1, 2, 4):
        program = tmp_path / f"{chips}.qdl"
        command("compile", model, "--machine", "bow-pod16", "--batch", 1, "--chips", chips, "-o", program)
        ran = json.loads(command("run", program, "--random", 1, "--check", "--output", tmp_path / "y.npz", "--json"))
        outputs.append(np.load(tmp_path / "y.npz"))
        outputs[-1] = [outputs[-1][name] for name in outputs[-1].files]
        figures = json.loads(command("profile", program, "--json"))
        interval = figures["figures"]["interval_cycles"]
        assert (interval is None) == (chips == 1)
        assert interval is None or interval < figures["cycles"] == ran["cycles"] <= chips * interval
    for other in outputs[1:]:
        for a, b in zip(outputs[0], other):
            np.testing.assert_array_equal(a, b)


# An IPU with little code has the more room for data: the first stage of this model has more code than the second one.
def test_data_lies_above_the_code_of_its_own_ipu(tmp_path):
    command("compile", ROOT / "test/zoo/tiny_transformer_dynamo.onnx", "--machine", "bow-pod16", "--batch", 1, "--chips", 2,
            "-o", tmp_path / "m.qdl")
    lowest = {}
    for tile, address in re.findall(r"^\.part tiles=(\d+)\S* address=(\d+)", command("disasm", tmp_path / "m.qdl"), re.M):
        ipu = int(tile) // 1472
        lowest[ipu] = min(int(address), lowest.get(ipu, int(address)))
    assert lowest[1] < lowest[0]


def save(path, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "model",
                              [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
                              [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
                              [numpy_helper.from_array(value, name) for name, value in constants])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


FLOAT = onnx.TensorProto.FLOAT


# An input that several IPUs read lies where the first of them reads it, and is sent on from there.
def test_an_input_that_several_ipus_read(tmp_path):
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "x"], ["a"]), helper.make_node("MatMul", ["a", "x"], ["b"]),
                               helper.make_node("MatMul", ["b", "x"], ["y"])],
         [("x", FLOAT, (32, 32))], [("y", FLOAT, (32, 32))])
    outputs = []
    for chips in (1, 2, 4):
        command("run", tmp_path / "m.onnx", "--machine", "bow-pod16", "--chips", chips, "--random", 1, "--check", "--output",
                tmp_path / "y.npz")
        outputs.append((tmp_path / "y.npz").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


# Sums are held in f32 where the weights say that f32 holds all of them, the largest 255 x (518 x 127 + 1) = 16,775,685
# of at most 2^24; 255 x (519 x 127 + 126) = 16,839,945 is more, and odd, which is seen when 16,800,000 are taken away.
@pytest.mark.parametrize("exact", [True, False])
def test_sums_of_integers_in_f32(exact, tmp_path):
    weights = np.full((520, 4), 127, np.int8)
    weights[518] = [1, -1, 1, 1] if exact else [127, -1, 1, 1]
    weights[519] = [0, 0, 0, 0] if exact else [126, 0, 0, 0]
    less = 7 if exact else 16_800_000
    save(tmp_path / "m.onnx", [helper.make_node("MatMulInteger", ["x", "w"], ["s"]),
                               helper.make_node("Sub", ["s", "c"], ["d"]), helper.make_node("Cast", ["d"], ["y"], to=FLOAT)],
         [("x", onnx.TensorProto.UINT8, (3, 520))], [("y", FLOAT, (3, 4))],
         [("w", weights), ("c", np.array(less, np.int32))])
    x = np.stack([np.full(520, 255), np.arange(520) % 256, np.full(520, 254)]).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x)
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "-o", tmp_path / "m.qdl")
    command("run", tmp_path / "m.qdl", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["y"],
                                  x.astype(np.int64) @ weights.astype(np.int64) - less)
    assert ("convert i32" in command("disasm", tmp_path / "m.qdl")) != exact


# A tile has all places of a window: 7 x 7 leave it 10 channels of 255 x 128 in f32, 13 x 13 three, fewer than a unit takes.
@pytest.mark.parametrize("size", [7, 13])
def test_integer_convolutions_with_large_windows(size, tmp_path):
    random = np.random.default_rng(11)
    weights = random.integers(100, 128, (8, 16, size, size)).astype(np.int8)
    x = random.integers(200, 256, (1, 16, 14, 14)).astype(np.uint8)
    places = 15 - size
    save(tmp_path / "m.onnx", [helper.make_node("ConvInteger", ["x", "w"], ["y"])],
         [("x", onnx.TensorProto.UINT8, x.shape)], [("y", onnx.TensorProto.INT32, (1, 8, places, places))], [("w", weights)])
    np.savez(tmp_path / "x.npz", x=x)
    command("run", tmp_path / "m.onnx", "--machine", "bow-ipu", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.int64), (size, size), axis=(1, 2))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["y"][0],
                                  np.einsum("cyxuv,ocuv->oyx", windows, weights.astype(np.int64)))


# Weights read at every second place, so that no matrix unit takes them: products and sums, the channels in parts.
def test_sums_in_parts(tmp_path):
    random = np.random.default_rng(3)
    weights = random.standard_normal((32, 1, 4, 4)).astype(np.float32)
    save(tmp_path / "m.onnx", [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])],
         [("x", FLOAT, (1, 32, 14, 14))], [("y", FLOAT, (1, 1, 28, 28))], [("w", weights)])
    ran = json.loads(command("run", tmp_path / "m.onnx", "--machine", "bow-ipu", "--random", 1, "--check", "--json"))
    assert ran["relative_l2"] < 1e-6


# Sums of products that f32 cannot hold exactly in one go: 1,100 of up to 255 x 128.
def test_integer_products_are_exact(tmp_path):
    random = np.random.default_rng(4)
    weights = random.integers(100, 128, (1100, 24)).astype(np.int8)
    x = random.integers(200, 256, (40, 1100)).astype(np.uint8)
    save(tmp_path / "m.onnx", [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
         [("x", onnx.TensorProto.UINT8, x.shape)], [("y", onnx.TensorProto.INT32, (40, 24))], [("w", weights)])
    np.savez(tmp_path / "x.npz", x=x)
    command("run", tmp_path / "m.onnx", "--machine", "bow-ipu", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["y"], x.astype(np.int64) @ weights.astype(np.int64))


@pytest.mark.parametrize("precision, tolerance", [("f32", 1e-6), ("f16", 1e-3), ("f16.f16", 1e-2)])
def test_precisions(tmp_path, precision, tolerance):
    weights = np.random.default_rng(5).standard_normal((300, 200)).astype(np.float32)
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", FLOAT, (70, 300))],
         [("y", FLOAT, (70, 200))], [("w", weights)])
    ran = json.loads(command("run", tmp_path / "m.onnx", "--machine", "bow-ipu", "--precision", precision, "--random", 1,
                             "--check", "--json"))
    assert ran["relative_l2"] < tolerance


def table_of(profile, title):
    return next(table["rows"] for table in profile["tables"] if table["title"].startswith(title))


# What follows a convolution is one vertex on a tile: bias, sum with another convolution's result, and bound.
@pytest.mark.parametrize("precision, tolerance", [("f16", 1e-3), ("f16.f16", 1e-2)])
def test_elementwise_work_behind_products_is_one_step(precision, tolerance, tmp_path):
    random = np.random.default_rng(12)
    weights = [(name, random.standard_normal((16, 16, 3, 3)).astype(np.float32)) for name in ("v", "w")]
    biases = [(name, random.standard_normal(16).astype(np.float32)) for name in ("a", "b")]
    save(tmp_path / "m.onnx",
         [helper.make_node("Conv", ["x", "v", "a"], ["p"], pads=[1, 1, 1, 1]),
          helper.make_node("Conv", ["x", "w", "b"], ["q"], pads=[1, 1, 1, 1]),
          helper.make_node("Add", ["p", "q"], ["r"]), helper.make_node("Relu", ["r"], ["y"])],
         [("x", FLOAT, (1, 16, 64, 64))], [("y", FLOAT, (1, 16, 64, 64))], weights + biases)
    options = ("--machine", "bow-ipu", "--precision", precision)
    ran = json.loads(command("run", tmp_path / "m.onnx", *options, "--random", 1, "--check", "--json"))
    assert ran["relative_l2"] < tolerance
    profile = json.loads(command("profile", tmp_path / "m.onnx", *options, "--json"))
    assert [row[2] for row in table_of(profile, "steps") if row[2] in ("map", "reduce", "start")] == ["map"]


# Inputs of a product lie so that a tile receives its blocks in few fragments, of three control words each: in rows, 64
# groups of channels of 256 rows would be 49,152 words.
def test_products_read_inputs_in_long_runs(tmp_path):
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])],
         [("x", FLOAT, (1024, 1024)), ("w", FLOAT, (1024, 1024))], [("y", FLOAT, (1024, 1024))])
    profile = json.loads(command("profile", tmp_path / "m.onnx", "--machine", "bow-ipu", "--json"))
    [code] = [row for row in table_of(profile, "memory of a tile") if row[0] == "exchange code"]
    assert int(code[2]) < 4096


# Weights of which the tiles cannot hold a few copies each are brought, as if they were given at run time.
def test_weights_that_are_too_large_to_copy(tmp_path):
    weights = np.random.default_rng(11).standard_normal((600, 600)).astype(np.float32)
    cycles = []
    for constants in ([("w", weights)], []):
        inputs = [("x", FLOAT, (400, 600))] + ([] if constants else [("w", FLOAT, (600, 600))])
        save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], inputs, [("y", FLOAT, (400, 600))],
             constants)
        ran = json.loads(command("run", tmp_path / "m.onnx", "--machine", "unit-ipu", "--random", 1, "--check", "--json"))
        assert ran["relative_l2"] < 1e-3
        cycles.append(ran["cycles"])
    assert cycles[0] == cycles[1]


# Channels that do not mix, between products that want their channels in other groups. 10 channels are no whole groups.
@pytest.mark.parametrize("machine, precision, tolerance",
                         [("bow-ipu", "f32", 1e-6), ("bow-ipu", "f16", 2e-3), ("bow-ipu", "f16.f16", 1e-2),
                          ("unit-ipu", "f16", 2e-3)])
def test_depthwise_convolutions(machine, precision, tolerance, tmp_path):
    random = np.random.default_rng(10)
    channels = 10
    mix, unmix = (random.standard_normal((channels, channels, 1, 1)).astype(np.float32) for _ in range(2))
    each = random.standard_normal((channels, 1, 5, 3)).astype(np.float32)
    bias = random.standard_normal(channels).astype(np.float32)
    save(tmp_path / "m.onnx",
         [helper.make_node("Conv", ["x", "mix"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
          helper.make_node("Conv", ["b", "each", "bias"], ["c"], group=channels, strides=[2, 1], dilations=[1, 2],
                           pads=[2, 2, 2, 2]),
          helper.make_node("Relu", ["c"], ["d"]), helper.make_node("Conv", ["d", "unmix"], ["y"])],
         [("x", FLOAT, (2, channels, 14, 9))], [("y", FLOAT, (2, channels, 7, 9))],
         [("mix", mix), ("unmix", unmix), ("each", each), ("bias", bias)])
    program = tmp_path / "m.qdl"
    command("compile", tmp_path / "m.onnx", "--machine", machine, "--precision", precision, "-o", program)
    # The machine has the vertex for halves, which are multiplied where sums are halves too.
    assert ("poplin::ConvPartialVerticalMac" in command("disasm", program)) == (precision == "f16.f16")
    ran = json.loads(command("run", program, "--random", 1, "--check", "--json"))
    assert ran["relative_l2"] < tolerance


# With sums in f32 depthwise convolutions, and the one in front of them that reads a picture, round nothing to halves.
# What the model itself has in halves is multiplied as such.
@pytest.mark.parametrize("behind, kind, least, most, vertex", [
    ("depthwise", np.float32, 0, 1e-6, False), ("depthwise", np.float16, 0, 1e-3, True),
    ("ordinary", np.float32, 1e-5, 1e-3, False)])
def test_what_depthwise_convolutions_read_is_not_rounded(behind, kind, least, most, vertex, tmp_path):
    random = np.random.default_rng(14)
    first = random.standard_normal((16, 3, 3, 3)).astype(kind)
    second = random.standard_normal((16, 1 if behind == "depthwise" else 16, 3, 3)).astype(kind)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    save(tmp_path / "m.onnx",
         [helper.make_node("Conv", ["x", "first"], ["a"], strides=[2, 2]), helper.make_node("Relu", ["a"], ["b"]),
          helper.make_node("Conv", ["b", "second"], ["y"], group=16 if behind == "depthwise" else 1)],
         [("x", element, (1, 3, 21, 21))], [("y", element, (1, 16, 8, 8))], [("first", first), ("second", second)])
    program = tmp_path / "m.qdl"
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "-o", program)
    assert ("poplin::ConvPartialVerticalMac" in command("disasm", program)) == vertex
    ran = json.loads(command("run", program, "--random", 1, "--check", "--json"))
    assert least <= ran["relative_l2"] < most


# Windows beside each other on a few channels are products over all of a window; others are convolutions.
@pytest.mark.parametrize("shape, kernel, strides, pads, patches", [
    ((2, 3, 32, 48), (16, 16), (16, 16), None, True),
    ((1, 3, 37, 21), (4, 5), (4, 5), None, True),  # a rest of each dimension is read by no window
    ((1, 1, 60), (6,), (6,), None, True),
    ((1, 2, 8, 8, 8), (2, 4, 2), (2, 4, 2), None, True),
    ((1, 3, 24, 24), (4, 4), (2, 4), None, False),
    ((1, 3, 24, 24), (4, 4), (4, 4), (2, 2, 2, 2), False),
    ((1, 16, 24, 24), (4, 4), (4, 4), None, False),
])
def test_patches_are_products(shape, kernel, strides, pads, patches, tmp_path):
    random = np.random.default_rng(9)
    weights = random.standard_normal((24, shape[1], *kernel)).astype(np.float32)
    bias = random.standard_normal(24).astype(np.float32)
    options = {"pads": pads} if pads else {}
    places = [(extent + (4 if pads else 0) - size) // step + 1 for extent, size, step in zip(shape[2:], kernel, strides)]
    save(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=strides, **options)],
         [("x", FLOAT, shape)], [("y", FLOAT, (shape[0], 24, *places))], [("w", weights), ("b", bias)])
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "--precision", "f32", "-o", tmp_path / "m.qdl")
    ran = json.loads(command("run", tmp_path / "m.qdl", "--random", 1, "--check", "--json"))
    assert ran["relative_l2"] < 1e-6
    assert ("poplin::ConvPartial1x1Out" in command("disasm", tmp_path / "m.qdl")) == patches


SLIM, ROWS, ONE = "poplin::ConvPartial1x4SLIC", "poplin::ConvPartialnx1", "poplin::ConvPartial1x1Out"


# Groups are a loop of their own: the matrix unit takes them, and its slim vertex those of up to 4 channels.
@pytest.mark.parametrize("groups, channels, field, kernel, options, vertex", [
    (8, (4, 4), (14, 14), (3, 3), {"pads": [1, 1, 1, 1]}, SLIM),
    (8, (2, 3), (29, 30), (3, 5), {"pads": [1, 2, 1, 2], "strides": [2, 2]}, {"f16": ROWS, "f16.f16": SLIM}),
    (5, (4, 2), (17, 12), (3, 4), {"dilations": [2, 1]}, SLIM),
    (6, (3, 4), (40,), (7,), {"pads": [3, 3]}, SLIM),
    (8, (4, 4), (14, 16), (3, 3), {"dilations": [1, 2]}, ROWS),  # the slim vertex does not dilate rows
    (8, (4, 4), (14, 16), (3, 3), {"strides": [1, 3]}, ROWS),
    (8, (8, 16), (14, 14), (3, 3), {"pads": [1, 1, 1, 1]}, ROWS),
    (4, (24, 8), (10, 10), (1, 1), {}, ONE),
])
@pytest.mark.parametrize("precision, tolerance", [("f16", 1e-3), ("f16.f16", 1e-2)])
def test_convolutions_in_groups(groups, channels, field, kernel, options, vertex, precision, tolerance, tmp_path):
    random = np.random.default_rng(10)
    each, made = channels
    weights = random.standard_normal((groups * made, each, *kernel)).astype(np.float32)
    bias = random.standard_normal(groups * made).astype(np.float32)
    rank = len(field)
    pads, strides = options.get("pads", [0] * 2 * rank), options.get("strides", [1] * rank)
    places = [(extent + pads[d] + pads[d + rank] - (kernel[d] - 1) * options.get("dilations", [1] * rank)[d] - 1)
              // strides[d] + 1 for d, extent in enumerate(field)]
    save(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "w", "b"], ["c"], group=groups, **options),
                               helper.make_node("Relu", ["c"], ["y"])],
         [("x", FLOAT, (2, groups * each, *field))], [("y", FLOAT, (2, groups * made, *places))],
         [("w", weights), ("b", bias)])
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "--precision", precision, "-o", tmp_path / "m.qdl")
    ran = json.loads(command("run", tmp_path / "m.qdl", "--random", 1, "--check", "--tolerance", tolerance, "--json"))
    assert ran["relative_l2"] > 1e-6
    assert set(re.findall(r"^poplin::\w+", command("disasm", tmp_path / "m.qdl"), re.M)) == {vertex if isinstance(vertex, str) else vertex[precision]}


# Rows of a table larger than a tile's memory, indices from both ends.
def test_rows_picked_from_many_tiles(tmp_path):
    table = np.random.default_rng(6).standard_normal((5000, 72)).astype(np.float32)
    indices = np.array([[0, 4999, -1, 17], [-5000, 2500, 2499, 3]])
    save(tmp_path / "m.onnx", [helper.make_node("Gather", ["t", "x"], ["y"])], [("x", onnx.TensorProto.INT64, (2, 4))],
         [("y", FLOAT, (2, 4, 72))], [("t", table)])
    np.savez(tmp_path / "x.npz", x=indices)
    command("run", tmp_path / "m.onnx", "--machine", "bow-ipu", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["y"], table[indices])


# A row of 128 of 16 KB: each tile finds few of the rows among whole columns, so that nothing is left to be added up.
def test_rows_picked_where_the_table_fits_a_tile(tmp_path):
    table = np.arange(512 * 16, dtype=np.float32).reshape(512, 16) % 61
    save(tmp_path / "m.onnx", [helper.make_node("Gather", ["t", "i"], ["y"])], [("i", onnx.TensorProto.INT64, (128,))],
         [("y", FLOAT, (128, 16))], [("t", table)])
    rows = np.random.RandomState(0).randint(0, 512, 128)
    np.save(tmp_path / "i.npy", rows)
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "-o", tmp_path / "m.qdl")
    command("run", tmp_path / "m.qdl", "--input", f"i={tmp_path / 'i.npy'}", "--output", tmp_path / "y.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["y"], table[rows])
    assert "reduce" not in {step["name"] for step in steps_of(tmp_path / "m.qdl")}


# The tiles that add up the parts of a sum are others than those that have a part, which would copy it beside the others.
def test_parts_of_sums_are_received_and_not_copied(tmp_path):
    weights = np.random.RandomState(0).standard_normal((1024, 64)).astype(np.float32)
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", FLOAT, (32, 1024))],
         [("y", FLOAT, (32, 64))], [("w", weights)])
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "-o", tmp_path / "m.qdl")
    command("run", tmp_path / "m.qdl", "--random", 1, "--check", "--tolerance", 1e-2)
    names = [step["name"] for step in steps_of(tmp_path / "m.qdl")]
    behind = names[names.index("multiply"):]
    assert "reduce" in behind and "gather" not in behind


# Weights and parts of sums lie in the memory that is read 16 bytes at once, other values below it.
def test_interleaved_memory_holds_weights_and_parts_of_sums(tmp_path):
    weights = np.random.RandomState(0).standard_normal((1024, 64)).astype(np.float32)
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Relu", ["s"], ["y"])],
         [("x", FLOAT, (32, 1024))], [("y", FLOAT, (32, 64))], [("w", weights)])
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "-o", tmp_path / "m.qdl")
    text = command("disasm", tmp_path / "m.qdl")
    products = re.findall(r"^poplin::ConvPartial1x1Out .* in=(\d+) weights=(\d+) .* loads=(\w+)", text, re.M)
    sums = re.findall(r"^popops::Reduce .* in=(\d+) .* loads=(\w+)", text, re.M)
    begin = (624 - 416) * 1024
    assert products and sums
    for operand, constant, loads in products:
        assert int(operand) < begin <= int(constant) and loads == "wide"
    for parts, loads in sums:
        assert int(parts) >= begin and loads == "wide"


# Two matrices of 4096 x 14336 and one back fill an IPU: there is room for them where own parts are copied, whose sending
# would take code.
def test_weights_that_fill_an_ipu(tmp_path):
    said = json.loads(command("compile", ROOT / "models/shape_only/swiglu_256_4096_14336.onnx", "--machine", "bow-ipu", "-o",
                              tmp_path / "m.qdl", "--json"))
    assert said["chips"] == 1


def test_what_does_not_fit_says_what_would(tmp_path):
    weights = np.random.default_rng(7).standard_normal((3000, 3000)).astype(np.float32)
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], [("x", FLOAT, (4, 3000))],
         [("y", FLOAT, (4, 3000))], [("w", weights)])
    error = command("compile", tmp_path / "m.onnx", "--machine", "unit-ipu", "-o", tmp_path / "m.qdl", code=1)
    for part in ("does not fit", "always live", "for code", "product", "smaller batch"):
        assert part in error
    assert not (tmp_path / "m.qdl").exists()
    error = command("compile", tmp_path / "m.onnx", "--machine", "bow-pod16", "--chips", 3, "-o", tmp_path / "m.qdl", code=1)
    assert "cannot have 3 IPUs" in error and "1, 2, 4, 8, 16" in error


def test_example_written_by_hand(tmp_path):
    text = (ROOT / "examples/ipu/matrix_vector.ipuasm").read_text()
    total = int(re.search(r"^# Total: .* = (\d+) cycles\.$", text, re.M)[1])
    program = tmp_path / "m.qdl"
    command("asm", ROOT / "examples/ipu/matrix_vector.ipuasm", "-o", program)
    matrix = np.random.default_rng(8).standard_normal((4, 8)).astype(np.float32)
    vector = np.random.default_rng(9).standard_normal(8).astype(np.float32)
    np.savez(tmp_path / "x.npz", A=matrix, x=vector)
    ran = json.loads(command("run", program, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--json"))
    assert ran["cycles"] == total
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], matrix @ vector, rtol=1e-5, atol=1e-6)
    report = json.loads(command("mutate", program, "--count", 200, "--json"))
    assert report["silent"] == 0 and report["wrong_value"] > 0
    assert report["benign"] == report["benign_proven"] > 0


# Loops stand in the program once. 2,000 turns would not fit an IPU's code, nor be tried, one behind the other.
@pytest.mark.parametrize("operator, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_loops_are_repeated(operator, gates, tmp_path):
    turns, width, hidden, directions = 2000, 24, 40, 2
    random = np.random.default_rng(6)
    constants = [(name, random.uniform(-.2, .2, (directions, gates * hidden, columns)).astype(np.float32))
                 for name, columns in (("w", width), ("r", hidden))]
    save(tmp_path / "m.onnx",
         [helper.make_node(operator, ["x", "w", "r"], ["y", "last"], hidden_size=hidden, direction="bidirectional")],
         [("x", FLOAT, (turns, 3, width))],
         [("y", FLOAT, (turns, directions, 3, hidden)), ("last", FLOAT, (directions, 3, hidden))], constants)
    program = tmp_path / "m.qdl"
    command("compile", tmp_path / "m.onnx", "--machine", "bow-ipu", "-o", program)
    assert command("check", program) == f"{program}: legal\n"
    ran = json.loads(command("run", tmp_path / "m.onnx", "--machine", "bow-ipu", "--random", 1, "--check", "--json"))
    profile = json.loads(command("profile", program, "--json"))
    assert ran["relative_l2"] < 1e-3 and ran["cycles"] == profile["cycles"]
    assert str(turns) in [row[3] for row in table_of(profile, "steps")]
    # As text and back.
    text = command("disasm", program)
    assert text.count(f"\nrepeat {turns}") == directions
    (tmp_path / "m.s").write_text(text)
    command("asm", tmp_path / "m.s", "-o", tmp_path / "back.qdl")
    assert command("disasm", tmp_path / "back.qdl") == text


# A loop runs on one IPU; others may run on the next one.
def test_loops_on_several_ipus(tmp_path):
    random = np.random.default_rng(7)
    turns, width = 2000, 32
    constants = [(name, random.uniform(-.2, .2, (1, 4 * width, width)).astype(np.float32)) for name in ("v", "r", "w", "s")]
    axis = [("axis", np.array([1]))]
    save(tmp_path / "m.onnx",
         [helper.make_node("LSTM", ["x", "v", "r"], ["a"], hidden_size=width),
          helper.make_node("Squeeze", ["a", "axis"], ["b"]),
          helper.make_node("LSTM", ["b", "w", "s"], ["y"], hidden_size=width)],
         [("x", FLOAT, (turns, 2, width))], [("y", FLOAT, (turns, 1, 2, width))], constants + axis)
    outputs = []
    for chips in (1, 2):
        ran = json.loads(command("run", tmp_path / "m.onnx", "--machine", "bow-pod16", "--chips", chips, "--random", 1, "--check",
                                 "--output", tmp_path / "y.npz", "--json"))
        assert ran["relative_l2"] < 1e-3
        outputs.append(np.load(tmp_path / "y.npz")["y"])
    np.testing.assert_array_equal(*outputs)
    profile = json.loads(command("profile", tmp_path / "m.onnx", "--machine", "bow-pod16", "--chips", 2, "--json"))
    repeated = [row for row in table_of(profile, "steps") if row[3] == str(turns)]
    assert len({row[0] for row in repeated if row[2] == "slice of the turn"}) == 2


# Stacked slices that end within a word go from IPU to IPU in whole words.
def test_stacked_parts_of_words_on_several_ipus(tmp_path):
    turns, rows, width = 12000, 17, 5
    half = onnx.TensorProto.FLOAT16
    body = helper.make_graph([helper.make_node("Tanh", ["slice"], ["turn"])], "body",
                             [helper.make_tensor_value_info("slice", half, (rows, width))],
                             [helper.make_tensor_value_info("turn", half, (rows, width))])
    save(tmp_path / "m.onnx",
         [helper.make_node("Scan", ["x"], ["all"], body=body, num_scan_inputs=1),
          helper.make_node("Transpose", ["all"], ["y"], perm=[2, 1, 0])],
         [("x", half, (turns, rows, width))], [("y", half, (width, rows, turns))], [])
    ran = json.loads(command("run", tmp_path / "m.onnx", "--machine", "bow-pod16", "--chips", 2, "--random", 1, "--check",
                             "--json"))
    assert ran["relative_l2"] < 1e-3
