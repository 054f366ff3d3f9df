"""Models on several chips of a Groq node: the same values on any number, and what is reported of them."""

import json

import pytest
from programs import ROOT, command

MODELS = {
    "models/mnist_pytorch/pytorch.onnx": [],
    "test/zoo/tiny_resnet_dynamo.onnx": ["--batch", 1],
    "test/zoo/tiny_transformer_torchscript.onnx": ["--batch", 1],
}


@pytest.mark.parametrize("model", MODELS)
def test_values_do_not_depend_on_the_chips(model, tmp_path):
    values = []
    for chips in (1, 2, 8):
        file = tmp_path / f"{chips}.npz"
        ran = json.loads(command("run", ROOT / model, "--machine", "groqnode", *MODELS[model], "--chips", chips, "--random", 1,
                                 "--check", "--output", file, "--json"))
        assert ran["chips"] == chips
        values.append(file.read_bytes())
        if chips == 1:
            assert ran["interval_cycles"] is None
        else:  # some chip is at work all the time, and none is all the time
            assert ran["cycles"] / chips <= ran["interval_cycles"] < ran["cycles"]
    assert values[0] == values[1] == values[2]


def test_a_program_of_two_chips_is_as_any_other(tmp_path):
    program = tmp_path / "m.qdl"
    made = json.loads(command("compile", ROOT / "models/mnist_pytorch/pytorch.onnx", "--machine", "groqnode", "--chips", 2,
                              "-o", program, "--json"))
    assert command("check", program) == f"{program}: legal\n"
    profile = json.loads(command("profile", program, "--json"))
    assert profile["cycles"] == made["cycles"]
    chips = next(table for table in profile["tables"] if table["title"] == "chips")
    windows = [int(row[chips["columns"].index("cycles")]) for row in chips["rows"]]
    assert len(windows) == 2 and max(windows) == made["interval_cycles"]
    report = json.loads(command("mutate", program, "--count", 60, "--json"))
    assert report["silent"] == 0 and report["benign"] <= 12


def test_compare_counts_runs_by_the_slowest_chip():
    compared = json.loads(command("compare", ROOT / "models/mnist_pytorch/pytorch.onnx", "--machines", "groqnode", "--chips", 2,
                                  "--json"))["machines"][0]
    assert compared["status"] == "ok" and compared["chips"] == 2
    assert compared["throughput_per_s"] > 1 / compared["latency_s"]


def test_a_number_of_chips_that_the_machine_has_not():
    message = command("run", ROOT / "models/mnist_pytorch/pytorch.onnx", "--machine", "groqnode", "--chips", 3, "--random", 1,
                      code=1)
    assert "a program for groqnode cannot have 3 chips; --chips may be 1, 2, 4, 8" in message
