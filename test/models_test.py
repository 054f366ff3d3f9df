"""The real models in models/ give their golden data, and they and small exports give what ONNX Runtime gives."""

import json
import pathlib
import sys

import numpy as np
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
    ("llama3_8b_decode_shape", llama_parameters(32, 4096, 1024, 14336, 128256)),
    ("mnist_cnn", 320 + 18_496 + 204_928 + 1_290),
    ("lenet", 54 + 864 + 784 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10),
    ("uno", sum(i * 1000 + 1000 for i in (942, 1000, 1000, 5270, 1000, 1000, 2048, 1000, 1000, 5002, 1000, 1000)) + 1001),
    # The counts that are published with these architectures.
    ("resnet18", 11_689_512), ("resnet50", 25_557_032), ("mobilenet_v2", 3_504_872), ("deit_tiny", 5_717_416),
    ("unet256", 7_763_041), ("braggnn", 33_172),
])
def test_parameters_are_those_published(name, count):
    assert zoo.MODELS[name].parameters == count


def test_inspect_counts_the_parameters_of_an_export():
    # TorchScript's exporter leaves every weight matrix: only normalisation is folded into the convolutions before it, whose
    # four numbers per channel become one bias. Channels: 8; 8, 8; 16, 16, 16. Weights: stem, blocks, shortcut, last layer.
    counted = json.loads(models.quadrille("inspect", TINY / "tiny_resnet_torchscript.onnx", "--batch", 1, "--json").stdout)
    assert counted["parameters"] == 3 * 8 * 49 + 2 * 8 * 8 * 9 + (8 + 16) * 16 * 9 + 8 * 16 + 72 + 340


def test_peak_memory_is_the_commands_own():
    held = np.ones(2**27)  # 1 GiB in this process, which a child would report as its own peak
    _, peak = models.timed("inspect", models.ROOT / "models/mnist_8/model.onnx")
    assert held.nbytes == 2**30 and 2**22 < peak < 2**29
