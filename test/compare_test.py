"""`quadrille compare`: one model on several machines."""

import json
import os
import pathlib
import signal
import subprocess
import time

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", str(ROOT / "build/bin/quadrille"))
MNIST = ROOT / "models/mnist_8/model.onnx"
SCHEMA = json.loads((ROOT / "docs/compare.schema.json").read_text())


def compare(*arguments, code=0, **options):
    done = subprocess.run([QUADRILLE, "compare", *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          **options)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done


def machines(*arguments, code=0):
    """{machine: its object} after the schema has been checked."""
    report = json.loads(compare(*arguments, "--json", code=code).stdout)
    jsonschema.validate(report, SCHEMA, cls=jsonschema.Draft202012Validator)
    return {machine["machine"]: machine for machine in report["machines"]}


def save(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
                              [helper.make_tensor_value_info(n, t, s) for n, t, s in outputs],
                              [numpy_helper.from_array(a, n) for n, a in initializers])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def product(tmp_path):
    """y[8,32] = x[8,64] w[64,32]"""
    weights = np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)
    return save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", TensorProto.FLOAT, [8, 64])],
                [("y", TensorProto.FLOAT, [8, 32])], [("w", weights)])


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_figures_follow_from_the_program(product):
    row = machines(product, "--machines", "host,unit-tsp", "--execute")["unit-tsp"]
    assert (row["status"], row["chips"], row["precision"], row["batch"]) == ("ok", 1, "f16", 8)
    run = json.loads(subprocess.run([QUADRILLE, "run", product, "--machine", "unit-tsp", "--random", "1", "--check", "--json"],
                                    capture_output=True, text=True, check=True).stdout)
    for key in ["cycles", "device_s", "host_s"]:
        assert row[key] == run[key]
    assert row["error"] == {"relative_l2": run["relative_l2"], "max_abs": run["max_abs"]}
    assert row["device_s"] == pytest.approx(row["cycles"] / 1e9)  # unit-tsp has 1 GHz
    assert row["latency_s"] == pytest.approx(row["device_s"] + row["host_s"])
    assert row["throughput_per_s"] == pytest.approx(8 / max(row["device_s"], row["host_s"]))
    figures = {key: figure["value"] for key, figure in described("unit-tsp").items()}
    # Fp16 units take 2 planes; 8 x 64 x 32 products of the model.
    peak = (figures["mxm.f16_rows"] * figures["mxm.f16_columns"] * figures["mxm.f16_units"] * row["cycles"])
    assert row["share_of_peak"] == pytest.approx(8 * 64 * 32 / peak)
    capacity = 2 * figures["mem.slices"] * figures["mem.banks"] * figures["mem.words_per_bank"] * 64  # lanes
    assert row["memory"]["capacity_bytes"] == capacity
    # At least the weights and one of the two activations, in 16 bits.
    assert 2 * 64 * 32 + 2 * 8 * 64 <= row["memory"]["peak_bytes"] <= capacity
    assert row["assumed"]


def described(machine):
    text = subprocess.run([QUADRILLE, "machines", machine, "--json"], capture_output=True, text=True, check=True).stdout
    return {figure["key"]: figure for figure in json.loads(text)["figures"]}


def test_without_execution_only_what_is_computed_is_there(product):
    rows = machines(product, "--machines", "host,unit-tsp")
    assert rows["host"]["status"] == "not_executed" and "--execute" in rows["host"]["reason"]
    assert rows["unit-tsp"]["status"] == "ok" and rows["unit-tsp"]["error"] is None and rows["unit-tsp"]["cycles"] > 0


def test_the_default_is_the_host_and_what_has_a_compiler(product):
    rows = machines(product)
    assert list(rows)[0] == "host" and {"groqcard", "groqnode", "groqrack"} <= set(rows)
    assert not any(name.startswith("unit-") or name == "null" for name in rows)


def test_text_has_a_line_a_machine(product):
    lines = compare(product, "--machines", "host,unit-tsp", "--execute").stdout.splitlines()
    assert lines[0] == f"{product}, batch 8"
    assert [line.split()[:2] for line in lines[1:4]] == [["machine", "status"], ["host", "ok"], ["unit-tsp", "ok"]]


def test_one_machine_that_cannot_does_not_stop_the_others(product, tmp_path):
    rows = machines(product, "--machines", "cs2,unit-tsp")
    assert rows["cs2"]["status"] == "unsupported" and "wse" in rows["cs2"]["reason"]
    assert rows["unit-tsp"]["status"] == "ok"
    # 512 words of 64 bytes in 32 slices are 1 MiB, and the weights 2.
    small = tmp_path / "small.yaml"
    small.write_text("chip: {name: unit-tsp}\nfigures:\n"
                     "  mem.words_per_bank: {value: 256, status: assumed, range: [256, 256], source: a test}\n")
    wide = save(tmp_path / "wide.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"], name="wide")],
                [("x", TensorProto.FLOAT, [1, 1024])], [("y", TensorProto.FLOAT, [1, 1024])],
                [("w", np.ones((1024, 1024), np.float32))])
    rows = machines(wide, "--machines", f"{small},unit-tsp")
    assert rows["small"]["status"] == "does_not_fit" and rows["unit-tsp"]["status"] == "ok"
    assert "wide" in rows["small"]["reason"] and str(wide) not in rows["small"]["reason"]
    done = compare(wide, "--machines", f"{small}", code=1)
    assert "does not fit" in done.stdout
    assert done.stderr == f"quadrille: {wide}: none of these machines can have the model\n"


def test_absent_weights_are_planned_and_not_executed():
    model = ROOT / "models/shape_only/resnet18.onnx"
    rows = machines(model, "--machines", "host", "--execute")
    assert rows["host"]["status"] == "not_executed" and "missing" in rows["host"]["reason"]


def test_inputs_from_files_reach_every_machine(product, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((8, 64), np.float32))
    rows = machines(product, "--machines", "host,unit-tsp", "--execute", "--input", tmp_path / "x.npz")
    assert rows["unit-tsp"]["error"] == {"relative_l2": 0, "max_abs": 0}


@pytest.mark.parametrize("arguments, words", [
    (["missing.onnx"], ["missing.onnx", "cannot open"]),
    ([MNIST, "--machines", "host,nosuch"], ["nosuch", "groqcard"]),
    ([MNIST, "--machines", "host,host"], ["host", "twice"]),
    ([MNIST, "--random", "1"], ["--random", "--execute"]),
    ([MNIST, "--execute", "--input", "missing.npz"], ["missing.npz"]),
    ([MNIST, "--batch", "0"], ["--batch"]),
    ([MNIST, "--precision", "i9"], ["--precision", "f16"]),
])
def test_user_errors_exit_2_and_compare_nothing(arguments, words):
    done = compare(*arguments, code=2)
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_a_program_is_for_one_machine(product, tmp_path):
    subprocess.run([QUADRILLE, "compile", product, "--machine", "unit-tsp", "-o", tmp_path / "m.qdl"], check=True)
    assert "m.qdl: a compiled program is for one machine; give the ONNX model" in compare(tmp_path / "m.qdl", code=2).stderr


def test_results_do_not_depend_on_threads(product):
    texts = {subprocess.run([QUADRILLE, "--threads", threads, "compare", product, "--machines", "unit-tsp,groqcard", "--execute",
                             "--json"], capture_output=True, check=True).stdout for threads in ("1", "2")}
    assert len(texts) == 1


def test_a_full_disk_is_one_message(product):
    with open("/dev/full", "w") as full:
        done = subprocess.run([QUADRILLE, "compare", product, "--machines", "unit-tsp", "--json"], stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("quadrille: cannot write to standard output")


def test_interrupt_prints_nothing():
    process = subprocess.Popen([QUADRILLE, "compare", ROOT / "models/super_resolution_10/model.onnx", "--machines", "host",
                                "--batch", "64", "--execute", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130) and out == b""
