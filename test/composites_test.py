"""Composites are found in what PyTorch's exporters write: as many as the architecture has, and with the same values."""

import os
import pathlib
import re
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

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


# Attention over 5 queries and keys whose scores are masked in many ways: a name must not hide a difference.
LOWER = np.tril(np.ones((5, 5), bool))
BAND = np.where(np.abs(np.subtract.outer(range(5), range(5))) <= 1, 0, -1e9).astype(np.float32)
SCALED = [("Mul", ["s0", "c"], "s")]
CASES = {  # nodes between the scores s0 and the masked ones z, constants, what the attention says (None: it is none)
    "plain": (SCALED + [("Identity", ["s"], "z")], {}, {"causal": 0, "masks": "[]"}),
    "band": (SCALED + [("Add", ["s", "m"], "z")], {"m": BAND}, {"causal": 0, "masks": '["add"]'}),
    "lower_kept": (SCALED + [("Where", ["m", "s", "n"], "z")], {"m": LOWER}, {"causal": 1, "masks": "[]"}),
    "lower_hidden": (SCALED + [("Where", ["m", "n", "s"], "z")], {"m": LOWER}, {"causal": 0, "masks": '["hide"]'}),
    "capped": (SCALED + [("Tanh", ["s"], "t"), ("Mul", ["t", "two"], "z")], {}, None),
    "scaled_mask": ([("Add", ["s0", "m"], "a"), ("Mul", ["a", "c"], "z")], {"m": BAND}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_says_what_is_done_to_the_scores(name, tmp_path):
    nodes, constants, expected = CASES[name]
    constants = {"c": np.float32(0.25), "n": np.float32(-1e9), "two": np.float32(2), **constants}
    nodes = [("MatMul", ["q", "k"], "s0"), *nodes]
    made = [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes]
    made += [helper.make_node("Softmax", ["z"], ["p"], axis=-1), helper.make_node("MatMul", ["p", "v"], ["y"])]
    shapes = {"q": [2, 3, 5, 8], "k": [2, 3, 8, 5], "v": [2, 3, 5, 8]}
    ports = [helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape) for key, shape in shapes.items()]
    used = {key for _, inputs, _ in nodes for key in inputs}
    graph = helper.make_graph(made, name, ports, [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3, 5, 8])],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in used])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    random = np.random.default_rng(1)
    inputs = {key: random.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    np.savez(tmp_path / "in.npz", **inputs)
    subprocess.run([QUADRILLE, "run", path, "--machine", "host", "--input", tmp_path / "in.npz", "--output",
                    tmp_path / "out.npz", "--dump-ir", tmp_path / "ir"], check=True, capture_output=True)
    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)
    assert np.allclose(np.load(tmp_path / "out.npz")["y"], wanted, rtol=1e-4, atol=1e-6)
    found = re.findall(r'^  composite "attention".*$', (tmp_path / "ir/kernels.txt").read_text(), re.MULTILINE)
    assert len(found) == (expected is not None)
    if expected:
        assert f"causal = {expected['causal']}," in found[0]
        assert f"masks = {expected['masks']}," in found[0]
