"""Composites are found in what PyTorch's exporters write: as many as the architecture has, and with the same values."""

import os
import pathlib
import re
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", ROOT / "build/bin/quadrille")

# Per layer: one attention; rotary positions on queries and keys; a normalisation before each of two blocks. A BERT layer
# normalises behind its two blocks and once behind the embedding.
DECODER = {"attention": 2, "rms_normalization": 4, "rotary_embedding": 4, "swiglu": 2}
ENCODER = {"attention": 2, "gelu": 2, "layer_normalization": 5}
MODELS = {"decoder_dynamo": DECODER, "decoder_torchscript": DECODER, "encoder_dynamo": ENCODER}


@pytest.mark.parametrize("name", MODELS)
def test_as_many_as_the_architecture_has(name):
    done = subprocess.run([QUADRILLE, "inspect", ROOT / f"test/composites/{name}.onnx", "--batch", "2", "--kernels"],
                          check=True, capture_output=True, text=True)
    found = re.findall(r"^  composite\s+(\w+)", done.stdout, re.MULTILINE)
    assert {kind: found.count(kind) for kind in set(found)} == MODELS[name]


@pytest.mark.parametrize("name", MODELS)
def test_give_what_onnx_runtime_gives(name, tmp_path):
    data = np.load(ROOT / f"test/composites/{name}.npz")
    np.savez(tmp_path / "in.npz", **{key[6:]: data[key] for key in data if key.startswith("input/")})
    subprocess.run([QUADRILLE, "run", ROOT / f"test/composites/{name}.onnx", "--machine", "host", "--input",
                    tmp_path / "in.npz", "--output", tmp_path / "out.npz", "--check"], check=True, capture_output=True)
    outputs = np.load(tmp_path / "out.npz")
    for key in (key for key in data if key.startswith("output/")):
        wanted = data[key].astype(np.float64)
        assert np.linalg.norm(outputs[key[7:]] - wanted) <= 1e-5 * np.linalg.norm(wanted)


# The causal mask is a constant of the decoder's; the scale is 1 / sqrt(head size), however it is spread over q and k.
@pytest.mark.parametrize("name", ["decoder_dynamo", "decoder_torchscript"])
def test_attention_knows_scale_and_causality(name, tmp_path):
    subprocess.run([QUADRILLE, "compile", ROOT / f"test/composites/{name}.onnx", "--machine", "host", "--batch", "2", "-o",
                    tmp_path / "m.qdl", "--dump-ir", tmp_path / "ir"], check=True, capture_output=True)
    lines = re.findall(r'^  composite "attention".*$', (tmp_path / "ir/kernels.txt").read_text(), re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert "causal = 1" in line
        assert abs(float(re.search(r"scale = ([0-9.e+-]+)", line)[1]) - 8**-0.5) < 1e-6
