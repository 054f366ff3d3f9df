"""Models compiled for Groq's chip: values right, and the same program, values and cycles whoever asks."""

import json
import sys

import pytest
from programs import ROOT, agrees_whatever_the_number_of_threads, command

sys.path.insert(0, str(ROOT / "tools"))
import matmul  # noqa: E402

# Options, and the largest relative L2 against the reference: 0 where all arithmetic is exact or the model's own.
MODELS = {
    "examples/tsp/activation.onnx": ([], 0),
    "examples/tsp/fetch.onnx": ([], 0),
    "examples/tsp/matmul.onnx": ([], 0),
    "examples/tsp/reduction.onnx": ([], 0),
    "examples/tsp/requantise.onnx": ([], 0),
    "examples/tsp/softmax.onnx": ([], 1e-6),
    "examples/tsp/two_chips.onnx": ([], 0),
    "examples/tsp/vector_add.onnx": ([], 0),
    "models/mnist_pytorch/pytorch.onnx": ([], 1e-3),
    "models/ultraface/version-RFB-320_without_postprocessing.onnx": ([], 1e-2),
    "models/super_resolution_10/model.onnx": (["--batch", 1], 1e-2),
    "models/squeezenet_fp16/SqueezeNet_fp16.onnx": ([], 1e-2),
    "test/zoo/tiny_resnet_dynamo.onnx": (["--batch", 1], 1e-2),
    "test/zoo/tiny_resnet_int8.onnx": (["--batch", 1], 0),
    "test/zoo/tiny_transformer_torchscript.onnx": (["--batch", 1], 1e-2),
}


@pytest.mark.parametrize("model", MODELS)
def test_model_agrees_whatever_the_number_of_threads(model, tmp_path):
    options, tolerance = MODELS[model]
    agrees_whatever_the_number_of_threads(ROOT / model, "groqcard", options, tolerance, tmp_path)


@pytest.mark.parametrize("model", ["examples/tsp/vector_add.onnx", "examples/tsp/matmul.onnx",
                                   "models/mnist_pytorch/pytorch.onnx"])
def test_no_mutation_of_a_compiled_program_is_silent(model, tmp_path):
    program = tmp_path / "m.qdl"
    command("compile", ROOT / model, "--machine", "groqcard", "-o", program)
    report = json.loads(command("mutate", program, "--count", 100, "--json"))
    assert report["silent"] == 0
    assert report["check"] + report["hazard"] + report["wrong_value"] + report["benign"] == 100
    # Fields that matter: were most changes benign, the test would show nothing.
    assert report["benign"] <= 20


def test_the_program_as_text_is_the_same_program(tmp_path):
    command("compile", ROOT / "examples/tsp/activation.onnx", "--machine", "groqcard", "-o", tmp_path / "m.qdl")
    command("disasm", tmp_path / "m.qdl", "-o", tmp_path / "m.tspasm")
    command("asm", tmp_path / "m.tspasm", "-o", tmp_path / "again.qdl")
    first, again = (json.loads(command("run", tmp_path / name, "--random", 1, "--json", "--output", f"{tmp_path / name}.npz"))
                    for name in ("m.qdl", "again.qdl"))
    assert first["cycles"] == again["cycles"]
    assert (tmp_path / "m.qdl.npz").read_bytes() == (tmp_path / "again.qdl.npz").read_bytes()


@pytest.mark.parametrize("columns", [1376, 1601, 2048, 3500])
def test_large_products_keep_the_matrix_unit_busy(columns, tmp_path):
    """Groq's own compiler has at least 80 % of the peak here (tools/matmul.py); nearly all of the rest is columns and rows
    that no tile has."""
    share = matmul.share_of(columns, matmul.cycles_of(columns, tmp_path))
    assert share >= 0.8
    assert share >= 0.985 * matmul.share_of_tiles(columns)
