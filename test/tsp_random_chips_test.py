"""Small random graphs on several chips of a Groq node: branches, residuals over any distance, several outputs, inputs that
only a late kernel reads."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from programs import command

ROWS, COLUMNS = 6, 40


def random_model(path, seed):
    """Values of ROWS x COLUMNS, each made of earlier ones; the last and some others are outputs, and one input is read by the
    last kernel alone."""
    random = np.random.default_rng(seed)
    inputs, nodes, constants = ["x", "late"], [], []
    values = ["x"]
    for number in range(random.integers(4, 14)):
        name, kind = f"v{number}", random.integers(6)
        one, other = (values[random.integers(len(values))] for _ in range(2))
        if kind <= 1:
            weight = random.standard_normal((COLUMNS, COLUMNS)).astype(np.float32) / np.float32(COLUMNS ** 0.5)
            constants.append(numpy_helper.from_array(weight, f"w{number}"))
            nodes.append(helper.make_node("MatMul", [one, f"w{number}"], [name], name=name))
        elif kind == 2:
            nodes.append(helper.make_node("Add", [one, other], [name], name=name))
        elif kind == 3:
            nodes.append(helper.make_node("Relu", [one], [name], name=name))
        elif kind == 4:
            nodes.append(helper.make_node("Softmax", [one], [name], axis=-1, name=name))
        else:
            nodes.append(helper.make_node("Mul", [one, other], [name], name=name))
        values.append(name)
    nodes.append(helper.make_node("Add", [values[-1], "late"], ["y"], name="y"))
    outputs = ["y", *sorted(set(random.choice(values[1:], 2)))]
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (ROWS, COLUMNS)) for name in [*inputs, *outputs]]
    graph = helper.make_graph(nodes, "random", info[:2], info[2:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_have_the_same_values_on_any_number_of_chips(seed, tmp_path):
    model = tmp_path / "m.onnx"
    random_model(model, seed)
    values = {}
    for chips in (1, 2, 4, 8):
        program, file = tmp_path / f"{chips}.qdl", tmp_path / f"{chips}.npz"
        made = json.loads(command("compile", model, "--machine", "groqnode", "--chips", chips, "-o", program, "--json"))
        ran = json.loads(command("run", program, "--random", 1, "--check", "--output", file, "--json"))
        assert ran["cycles"] == made["cycles"]
        values[chips] = np.load(file)
    for chips in (2, 4, 8):
        assert sorted(values[chips]) == sorted(values[1])
        for name in values[1]:
            np.testing.assert_array_equal(values[chips][name], values[1][name])
