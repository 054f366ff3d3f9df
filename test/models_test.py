"""The real models in models/ give their golden data, and what ONNX Runtime gives."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import models


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
