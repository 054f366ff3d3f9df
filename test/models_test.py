"""The real models in models/ give their golden data, and they and small exports give what ONNX Runtime gives."""

import collections
import json
import pathlib
import sys

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import models
import zoo

TINY = pathlib.Path(__file__).parent / "zoo"


@pytest.mark.parametrize("name", list(models.MODELS))
def test_model_agrees(name):
    golden, tolerance, error, limit, _, _ = models.measure(name, repeats=1)
    if tolerance is not None:
        assert golden <= tolerance
    assert error <= limit


def test_quantized_mnist_gives_the_class_of_its_golden_data(tmp_path):
    # The golden output is the float model's (models/README.md), so only the class is comparable.
    folder = models.ROOT / "models/mnist_quantized"
    outputs, _ = models.run("mnist_quantized", folder / "model_quantized.onnx", [],
                            {"Input3": models.read_pb(folder / "test_data_set_0/input_0.pb")}, tmp_path)
    (got,) = outputs.values()
    assert np.argmax(got) == np.argmax(models.read_pb(folder / "test_data_set_0/output_0.pb"))


def tiny_run(name, batch, folder, seed=7):
    file = TINY / f"{name}.onnx"
    session = models.ort_session(file)
    inputs = models.declared_inputs(session, zoo.TINY[name].inputs(batch, seed))
    outputs, _ = models.run(name, file, ["--batch", batch], inputs, folder)
    wanted = dict(zip([port.name for port in session.get_outputs()], session.run(None, inputs)))
    assert outputs.keys() == wanted.keys()
    return outputs, wanted


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", [name for name in zoo.TINY if not name.endswith("int8")])
def test_export_agrees_at_any_batch(name, batch, tmp_path):
    outputs, wanted = tiny_run(name, batch, tmp_path)
    for port, value in wanted.items():
        assert outputs[port].shape == value.shape
        assert models.relative_l2(outputs[port], value) <= 1e-5


def test_padding_reaches_the_transformer(tmp_path):
    # If the mask were ignored, the agreement above could not tell: the tokens that it hides must matter.
    file = TINY / "tiny_transformer_dynamo.onnx"
    inputs = zoo.TINY["tiny_transformer_dynamo"].inputs(1, 7)
    masked, _ = models.run("masked", file, ["--batch", 1], inputs, tmp_path)
    inputs["attention_mask"] = np.ones_like(inputs["attention_mask"])
    whole, _ = models.run("whole", file, ["--batch", 1], inputs, tmp_path)
    assert models.relative_l2(masked["output"], whole["output"]) > 1e-3


@pytest.mark.parametrize("name", ["tiny_resnet_dynamo", "tiny_resnet_torchscript", "tiny_resnet_int8"])
def test_many_classes_occur_among_the_images(name, tmp_path):
    outputs, wanted = tiny_run(name, models.CLASS_IMAGES, tmp_path, models.CLASS_SEED)
    got, reference = outputs["output"].argmax(1), wanted["output"].argmax(1)
    assert len(set(got)) >= models.FEWEST_CLASSES
    if not name.endswith("int8"):  # where classes tie after quantisation, either may come first
        assert np.array_equal(got, reference)


def test_quantised_network_is_bit_for_bit_that_of_integer_operators(tmp_path):
    # Whole, with the operators as ONNX defines them in integers and no fusion: docs/models.md says why not the file itself.
    file = TINY / "tiny_resnet_int8.onnx"
    inputs = zoo.TINY["tiny_resnet_int8"].inputs(models.CLASS_IMAGES, models.CLASS_SEED)
    defined = models.with_integer_operators(onnx.load(file))
    kinds = collections.Counter(node.op_type for node in defined.graph.node)
    assert (kinds["QLinearConv"], kinds["QGemm"], kinds["Conv"], kinds["Gemm"]) == (6, 1, 0, 0)
    (wanted,) = models.ort_session(defined.SerializeToString(), optimized=False).run(None, inputs)
    outputs, _ = models.run("whole", file, ["--batch", models.CLASS_IMAGES], inputs, tmp_path)
    assert np.array_equal(outputs["output"], wanted)


def test_requantisation_takes_its_factors_in_the_order_of_onnx(tmp_path):
    # ONNX: sum * (scale_a * scale_b / scale_y), each step rounded to f32. Of a million sums another order, or the factor
    # beside it, rounds some otherwise: asserted below, so that this test can tell.
    generator = np.random.default_rng(7)
    left = generator.integers(0, 256, (1024, 64), np.uint8)
    right = generator.integers(-128, 128, (64, 1024)).astype(np.int8)
    scale, scales, to = np.float32(0.0371), generator.uniform(0.004, 0.008, 1024).astype(np.float32), np.float32(0.173)
    held = {"scale": scale, "zero": np.uint8(113), "right": right, "scales": scales, "zeros": np.zeros(1024, np.int8),
            "to": to, "middle": np.uint8(130)}
    make = onnx.helper.make_node
    nodes = [make("DequantizeLinear", ["left", "scale", "zero"], ["a"]),
             make("DequantizeLinear", ["right", "scales", "zeros"], ["b"], axis=1), make("MatMul", ["a", "b"], ["c"]),
             make("QuantizeLinear", ["c", "to", "middle"], ["result"])]
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape)
             for name, shape in (("left", left.shape), ("result", (1024, 1024)))]
    graph = onnx.helper.make_graph(nodes, "product", ports[:1], ports[1:],
                                   [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "product.onnx")
    outputs, _ = models.run("product", tmp_path / "product.onnx", [], {"left": left}, tmp_path)

    sums = ((left.astype(np.int64) - 113) @ right.astype(np.int64)).astype(np.float32)

    def requantised(factors):
        return np.clip(np.rint(sums * factors) + 130, 0, 255).astype(np.uint8)

    assert np.array_equal(outputs["result"], requantised(scale * scales / to))
    defined = models.ort_session(models.with_integer_operators(model).SerializeToString(), optimized=False)
    assert np.array_equal(outputs["result"], defined.run(None, {"left": left})[0])
    assert np.mean((outputs["result"] > 0) & (outputs["result"] < 255)) > 0.9
    for other in (scale * (scales / to), scale / to * scales, np.nextafter(scale * scales / to, np.float32(0))):
        assert not np.array_equal(outputs["result"], requantised(other))


# ResNet: stem, two convolutions in each of two blocks, one shortcut, the last layer. Transformer: seven weights and two
# products of activations in each of two layers, and the head.
@pytest.mark.parametrize("name, products", [("tiny_resnet_int8", 7), ("tiny_transformer_int8", 19)])
def test_integer_operators_are_bit_for_bit_those_of_onnx_runtime(name, products):
    inputs = zoo.TINY[name].inputs(1, 7)
    assert models.inexact_operators(TINY / f"{name}.onnx", inputs) == ([], products)


@pytest.mark.parametrize("name, products", [("tiny_resnet_int8", 7), ("tiny_transformer_int8", 19)])
def test_every_product_of_a_quantised_model_becomes_an_integer_contraction(name, products):
    text = models.quadrille("inspect", TINY / f"{name}.onnx", "--batch", 1, "--kernels").stdout
    contractions = [line for line in text.splitlines() if line.split()[:1] == ["contract"]]
    assert len(contractions) == products
    assert all(" i32[" in line for line in contractions)


def bert_parameters(layers, width, inner, vocabulary=30522, positions=512):
    block = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
    return vocabulary * width + positions * width + 2 * width + 2 * width + layers * block + width**2 + width


def gpt2_parameters(layers, width, positions, vocabulary=50257):
    return vocabulary * width + positions * width + layers * (12 * width**2 + 13 * width) + 2 * width


def llama_parameters(layers, width, kv_width, inner, vocabulary):
    block = 2 * width**2 + 2 * width * kv_width + 3 * width * inner + 2 * width
    return 2 * vocabulary * width + layers * block + width


def normalised(inputs, outputs, kernel):
    return inputs * outputs * kernel**2 + 2 * outputs  # a convolution without bias and a batch norm


def resnet_parameters(blocks, bottleneck):
    count, inputs = normalised(3, 64, 7), 64
    for width, repeats in zip((64, 128, 256, 512), blocks):
        outputs = 4 * width if bottleneck else width
        kernels = [(width, 1), (width, 3), (outputs, 1)] if bottleneck else [(width, 3), (outputs, 3)]
        if inputs != outputs:
            count += normalised(inputs, outputs, 1)
        for _ in range(repeats):
            for to, kernel in kernels:
                count += normalised(inputs, to, kernel)
                inputs = to
    return count + inputs * 1000 + 1000


def mobilenet_v2_parameters():
    count, inputs = normalised(3, 32, 3), 32
    for expansion, outputs, repeats in [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3),
                                        (6, 320, 1)]:
        for _ in range(repeats):
            wide = expansion * inputs
            count += normalised(inputs, wide, 1) if expansion > 1 else 0
            count += normalised(1, wide, 3) + normalised(wide, outputs, 1)
            inputs = outputs
    return count + normalised(320, 1280, 1) + 1280 * 1000 + 1000


def vit_parameters(layers, width, inner, patches=196):
    embedded = 3 * 16**2 * width + width + width + (patches + 1) * width  # patches of 16, the class token, positions
    block = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
    return embedded + layers * block + 2 * width + width * 1000 + 1000


def unet_parameters(widths):
    down = sum(normalised(i, o, 3) + normalised(o, o, 3) for i, o in zip([3, *widths], widths))
    # Transposed 2x2 convolution with bias, then twice 3x3 on it and what was kept.
    up = sum(2 * w * w * 4 + w + normalised(2 * w, w, 3) + normalised(w, w, 3) for w in widths[:-1])
    return down + up + widths[0] + 1


# From the dimensions, by formulas that are written out here; tools/zoo_export.py refuses a network with another count.
@pytest.mark.parametrize("name, count", [
    ("bert_tiny", bert_parameters(2, 128, 512)),
    ("bert_base", bert_parameters(12, 768, 3072)),
    ("bert_large", bert_parameters(24, 1024, 4096)),
    ("minilm_l6", bert_parameters(6, 384, 1536)),
    # No token types, no pooler.
    ("distilbert", bert_parameters(6, 768, 3072) - 2 * 768 - 768**2 - 768),
    ("gpt2", gpt2_parameters(12, 768, 1024)),
    ("gpt2_2048", gpt2_parameters(12, 768, 2048)),
    ("gpt2_xl_shape", gpt2_parameters(48, 1600, 1024)),
    ("llama2_7b_shape", llama_parameters(32, 4096, 4096, 11008, 32000)),
    ("llama2_7b_prompt_shape", llama_parameters(32, 4096, 4096, 11008, 32000)),
    ("llama3_8b_decode_shape", llama_parameters(32, 4096, 1024, 14336, 128256)),
    ("mnist_cnn", 320 + 18_496 + 204_928 + 1_290),
    ("lenet", 54 + 864 + 784 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10),
    ("uno", sum(i * 1000 + 1000 for i in (942, 1000, 1000, 5270, 1000, 1000, 2048, 1000, 1000, 5002, 1000, 1000)) + 1001),
    ("resnet18", resnet_parameters([2, 2, 2, 2], bottleneck=False)),
    ("resnet50", resnet_parameters([3, 4, 6, 3], bottleneck=True)),
    ("mobilenet_v2", mobilenet_v2_parameters()),
    ("deit_tiny", vit_parameters(12, 192, 768)),
    ("unet256", unet_parameters([32, 64, 128, 256, 512])),
    # Convolutions 1-64, the non-local block's three to 32 and one back, 64-32, 32-8, then the dense layers.
    ("braggnn", 640 + 3 * (64 * 32 + 32) + 32 * 64 + 64 + 64 * 32 * 9 + 32 + 32 * 8 * 9 + 8
     + sum(i * o + o for i, o in [(200, 16), (16, 8), (8, 4), (4, 2), (2, 2)])),
    # Embedding tied to the head, which has a bias; two norms in a layer and one after them; no biases in the layers.
    ("nucleotide_transformer", 4107 * 512 + 4107 + 12 * (4 * 512**2 + 3 * 512 * 2048 + 4 * 512) + 2 * 512),
    # Four gates, each with weights of the input and the state and PyTorch's two biases, in two directions.
    ("lstm_seq", 2 * 4 * 128 * (64 + 128 + 2) + 2 * 4 * 128 * (256 + 128 + 2) + 256 * 10 + 10),
    ("vae", 32 * 9 + 32 + 64 * 32 * 9 + 64 + 3136 * 256 + 256 + 2 * (256 * 32 + 32) + 32 * 3136 + 3136
     + 64 * 32 * 16 + 32 + 32 * 16 + 1),
])
def test_parameters_are_those_published(name, count):
    assert zoo.MODELS[name].parameters == count


def test_every_parameter_count_is_derived():
    (marks,) = [m for m in test_parameters_are_those_published.pytestmark if m.name == "parametrize"]
    derived = {name for name, _ in marks.args[1]}
    assert derived == {name for name, entry in zoo.MODELS.items() if entry.parameters is not None}


def test_inspect_counts_the_parameters_of_an_export():
    # TorchScript's exporter leaves every weight matrix: only normalisation is folded into the convolutions before it, whose
    # four numbers per channel become one bias. Channels: 8; 8, 8; 16, 16, 16. Weights: stem, blocks, shortcut, last layer.
    counted = json.loads(models.quadrille("inspect", TINY / "tiny_resnet_torchscript.onnx", "--batch", 1, "--json").stdout)
    assert counted["parameters"] == 3 * 8 * 49 + 2 * 8 * 8 * 9 + (8 + 16) * 16 * 9 + 8 * 16 + 72 + 340


def test_peak_memory_is_the_commands_own():
    held = np.ones(2**27)  # 1 GiB in this process, which a child would report as its own peak
    _, peak = models.timed("inspect", models.ROOT / "models/mnist_8/model.onnx")
    assert held.nbytes == 2**30 and 2**22 < peak < 2**29
