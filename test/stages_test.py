"""Models that the user cuts into stages (--stages-at), and programs that run side by side (--replicas)."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from programs import ROOT, command

FLOAT = onnx.TensorProto.FLOAT
UNITS = {"bow-pod16": "IPU", "groqnode": "chip"}
TRANSFORMER = ROOT / "test/zoo/tiny_transformer_torchscript.onnx"


def save(path, nodes, shape, constants=()):
    """A model from x to y, both of the shape."""
    graph = helper.make_graph(nodes, "model", [helper.make_tensor_value_info("x", FLOAT, shape)],
                              [helper.make_tensor_value_info("y", FLOAT, shape)],
                              [numpy_helper.from_array(value, name) for name, value in constants])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture
def gemms(tmp_path):
    """Three products; the last one's result plus that of the first, which so goes over two cuts."""
    random = np.random.default_rng(1)
    weights = [(f"w{i}", 0.1 * random.standard_normal((64, 64)).astype(np.float32)) for i in range(3)]
    biases = [(f"b{i}", random.standard_normal(64).astype(np.float32)) for i in range(3)]
    return save(tmp_path / "gemms.onnx",
                [helper.make_node("Gemm", ["x", "w0", "b0"], ["p"], name="first"),
                 helper.make_node("Relu", ["p"], ["q"], name="first_relu"),
                 helper.make_node("Gemm", ["q", "w1", "b1"], ["r"], name="second"),
                 helper.make_node("Relu", ["r"], ["s"], name="second_relu"),
                 helper.make_node("Gemm", ["s", "w2", "b2"], ["t"], name="third"),
                 helper.make_node("Add", ["t", "q"], ["y"], name="skip")], (8, 64), weights + biases)


def placements(profile):
    """{node: where it is executed}"""
    return {kernel["name"]: kernel["placement"] for kernel in profile["kernels"]}


def table_of(profile, title):
    return next(table for table in profile["tables"] if table["title"] == title)


@pytest.mark.parametrize("machine", UNITS)
@pytest.mark.parametrize("cuts, chips", [(["second"], 2), (["third"], 2), (["second", "third"], 4)])
def test_stages_hold_the_nodes_that_were_asked_for(machine, cuts, chips, gemms, tmp_path):
    command("run", gemms, "--machine", machine, "--chips", 1, "--random", 1, "--output", tmp_path / "1.npz")
    program = tmp_path / "m.qdl"
    made = json.loads(command("compile", gemms, "--machine", machine, "--stages-at", ",".join(cuts), "-o", program, "--json"))
    assert made["chips"] == chips  # programs have powers of two, of which three stages leave one without work
    assert command("check", program) == f"{program}: legal\n"
    ran = json.loads(command("run", program, "--random", 1, "--check", "--output", tmp_path / "n.npz", "--json"))
    assert ran["cycles"] == made["cycles"] and ran["relative_l2"] < 1e-3
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "n.npz").read_bytes()
    order = ["first", "first_relu", "second", "second_relu", "third", "skip"]
    bounds = [0, *(order.index(cut) for cut in cuts), len(order)]
    profile = json.loads(command("profile", program, "--json"))
    where = placements(profile)
    assert {"first", "second", "third"} <= set(where)
    for stage, (begin, end) in enumerate(zip(bounds, bounds[1:])):
        here = [node for node in order[begin:end] if node in where]
        assert {where[node] for node in here} == {f"{UNITS[machine]} {stage}"}
        assert table_of(profile, "stages")["rows"][stage] == [str(stage), str(len(here)), here[0], here[-1]]
    assert len(table_of(profile, "stages")["rows"]) == len(cuts) + 1
    assert profile["figures"]["interval_cycles"] < profile["cycles"]


# Each option of its own, as names may have commas.
@pytest.mark.parametrize("machine", UNITS)
def test_names_with_commas(machine, tmp_path):
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "x"], ["a"], name="one"),
                               helper.make_node("MatMul", ["a", "x"], ["b"], name="a,b"),
                               helper.make_node("MatMul", ["b", "x"], ["y"], name="three")], (32, 32))
    profile = json.loads(command("profile", "--stages-at", "a,b", "--stages-at", "three", tmp_path / "m.onnx", "--machine",
                                 machine, "--chips", 3, "--json"))
    unit = UNITS[machine]
    assert [row[2] for row in table_of(profile, "stages")["rows"]] == ["one", "a,b", "three"]
    assert placements(profile) == {"one": f"{unit} 0", "a,b": f"{unit} 1", "three": f"{unit} 2"}


@pytest.mark.parametrize("machine", UNITS)
def test_a_transformer_by_its_blocks(machine, tmp_path):
    options = ("--batch", 1, "--machine", machine)
    command("run", TRANSFORMER, *options, "--chips", 1, "--random", 1, "--output", tmp_path / "1.npz")
    program = tmp_path / "m.qdl"
    command("compile", TRANSFORMER, *options, "--stages-at", "/blocks.1/attention_norm/LayerNormalization,/MatMul", "-o",
            program)
    ran = json.loads(command("run", program, "--random", 1, "--check", "--output", tmp_path / "n.npz", "--json"))
    assert ran["relative_l2"] < 1e-2
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "n.npz").read_bytes()
    where = placements(json.loads(command("profile", program, "--json")))
    for node, placement in where.items():
        stage = 1 if node.startswith("/blocks.1/") else 2 if node in ("/MatMul", "/Add") else 0
        assert placement == f"{UNITS[machine]} {stage}" or node == "/norm/LayerNormalization" and placement[-1] == "1", node
    assert {place[-1] for place in where.values()} == {"0", "1", "2"}


# In the file the nodes that dequantise weights stand before all others; each counts where its weights are needed.
@pytest.mark.parametrize("machine", UNITS)
def test_a_quantised_model(machine, tmp_path):
    options = (ROOT / "test/zoo/tiny_resnet_int8.onnx", "--batch", 1, "--machine", machine)
    command("run", *options, "--chips", 1, "--random", 1, "--output", tmp_path / "1.npz")
    program = tmp_path / "m.qdl"
    command("compile", *options, "--stages-at", "relu_2_DequantizeLinear", "-o", program)
    command("run", program, "--random", 1, "--check", "--output", tmp_path / "n.npz")
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "n.npz").read_bytes()
    rows = table_of(json.loads(command("profile", program, "--json")), "stages")["rows"]
    assert [row[0] for row in rows] == ["0", "1"] and all(int(row[1]) > 2 for row in rows)
    message = command("compile", *options, "--stages-at", "node_Conv_100", "-o", program, code=2)
    assert "node_Conv_100: --stages-at: no stage can begin here: it is within" in message
    assert "'relu_2_DequantizeLinear'" in message


@pytest.mark.parametrize("code, options, words", [
    (2, ["--stages-at", "secnd"], ["no node 'secnd'", "did you mean 'second'?"]),
    (2, ["--stages-at", "third,second"], ["second:", "before 'third'", "in the order of the model"]),
    (2, ["--stages-at", "second", "--stages-at", "second"], ["second:", "named twice"]),
    (2, ["--stages-at", "first"], ["first:", "the first stage would be empty", "'second'"]),
    (2, ["--stages-at", "second_relu"], ["second_relu:", "within a kernel that begins with 'second'", "'second', 'third'"]),
    (2, ["--stages-at", "second", "--chips", "4"], ["--chips 4 contradicts --stages-at", "2 stages"]),
    (1, ["--stages-at", "second", "--machine", "bow-ipu"], ["2 stages", "bow-ipu has 1 at the most"]),
    (1, ["--stages-at", "second", "--machine", "groqcard"], ["2 stages", "groqcard has 1 at the most"]),
    (1, ["--stages-at", "second", "--machine", "host"], ["one machine", "--stages-at"]),
    (1, ["--replicas", "17"], ["17 replicas of 1 chip on a machine of 16", "--replicas may be at most 16"]),
    (1, ["--replicas", "5", "--stages-at", "second,third"], ["5 replicas of 4 chips", "at most 4"]),
    (1, ["--replicas", "9", "--machine", "groqnode"], ["9 replicas of 1 chip", "at most 8"]),
    (1, ["--replicas", "2", "--machine", "host"], ["one machine", "leave out", "--replicas"]),
    (2, ["--replicas", "0"], ["--replicas"]),
])
def test_what_cannot_be_had_is_named(code, options, words, gemms, tmp_path):
    if "--machine" not in options:
        options = [*options, "--machine", "bow-pod16"]
    message = command("compile", gemms, *options, "-o", tmp_path / "m.qdl", code=code)
    for word in words:
        assert word in message
    assert not (tmp_path / "m.qdl").exists()


def test_two_nodes_of_one_name(tmp_path):
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "x"], ["a"], name="one"),
                               helper.make_node("MatMul", ["a", "x"], ["b"], name="twin"),
                               helper.make_node("MatMul", ["b", "x"], ["c"], name="three"),
                               helper.make_node("MatMul", ["c", "x"], ["y"], name="twin")], (32, 32))
    for cut in ("twin", "three"):
        message = command("compile", tmp_path / "m.onnx", "--machine", "groqnode", "--stages-at", cut, "-o", tmp_path / "m.qdl",
                          code=2)
        assert "twin: --stages-at: 2 nodes have this name" in message


def test_nodes_that_are_computed_at_import(tmp_path):
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "x"], ["a"], name="one"),
                               helper.make_node("Transpose", ["w"], ["v"], name="folded"),
                               helper.make_node("MatMul", ["a", "v"], ["y"], name="two")], (32, 32),
         [("w", np.random.default_rng(2).standard_normal((32, 32)).astype(np.float32))])
    message = command("compile", tmp_path / "m.onnx", "--machine", "bow-pod16", "--stages-at", "folded", "-o", tmp_path / "m.qdl",
                      code=2)
    assert "folded: --stages-at" in message and "no kernel of the machine is made of it" in message and "'two'" in message


def test_a_compiled_program_has_its_stages_and_replicas(gemms, tmp_path):
    program = tmp_path / "m.qdl"
    command("compile", gemms, "--machine", "bow-pod16", "-o", program)
    for options in (["--stages-at", "second"], ["--replicas", 2]):
        assert "stages and replicas fixed" in command("run", program, *options, "--random", 1, code=2)


def machine_of(path, text):
    path.write_text(text.replace("DEFAULTS", "defaults: {status: assumed, source: a test}"))
    return path


@pytest.fixture
def unit_pod(tmp_path):
    """Two machines of four IPUs of the test bench."""
    return machine_of(tmp_path / "unit-pod.yaml", "chip: {name: unit-ipu, count: 8}\nDEFAULTS\nfigures:\n"
                      "  system.ipus_per_machine: {value: 4, range: [4, 4]}\n  system.machines: {value: 2, range: [2, 2]}\n"
                      "  system.topology: {value: ladder}\n  system.ipu_counts: {value: [1, 2, 4, 8]}\n")


# 1600 x 1600 halves are 5 MB, of which an IPU of the test bench has 4; 640 x 640 are 0.8 MB, of which a chip of few words
# has 0.6.
@pytest.mark.parametrize("target, width", [("ipu", 1600), ("tsp", 640)])
def test_a_stage_that_does_not_fit_says_what_it_takes(target, width, tmp_path, unit_pod):
    machine = unit_pod if target == "ipu" else machine_of(
        tmp_path / "few.yaml", "chip: {name: unit-tsp-node}\nDEFAULTS\nfigures:\n"
        "  mem.words_per_bank: {value: 160, range: [160, 160]}\n")
    random = np.random.default_rng(3)
    save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "small"], ["a"], name="small"),
                               helper.make_node("MatMul", ["a", "large"], ["b"], name="large"),
                               helper.make_node("MatMul", ["b", "last"], ["y"], name="last")], (8, 32),
         [("small", random.standard_normal((32, width)).astype(np.float32)),
          ("large", random.standard_normal((width, width)).astype(np.float32)),
          ("last", random.standard_normal((width, 32)).astype(np.float32))])
    message = command("compile", tmp_path / "m.onnx", "--machine", machine, "--stages-at", "large,last", "-o", tmp_path / "m.qdl",
                      code=1)
    assert "stage 1 (begins with 'large') does not fit" in message
    for word in ["bytes that are always live", "for code"] if target == "ipu" else ["MiB", "a chip holds"]:
        assert word in message


def compared(model, machine, *options):
    return json.loads(command("compare", model, "--machines", machine, *options, "--json"))["machines"][0]


# Where the device limits, replicas multiply the runs a second, and nothing of one.
@pytest.mark.parametrize("machine, options, replicas", [
    ("bow-pod16", ["--stages-at", "second,third"], 4), ("bow-pod16", ["--chips", 1], 4), ("groqnode", ["--stages-at", "second"], 4)])
def test_replicas_multiply_the_throughput(machine, options, replicas, gemms):
    one, several = compared(gemms, machine, *options), compared(gemms, machine, *options, "--replicas", replicas)
    assert (one["replicas"], several["replicas"]) == (1, replicas)
    for key in ("chips", "cycles", "latency_s", "device_s", "host_s", "share_of_peak"):
        assert several[key] == one[key] or several[key] == pytest.approx(one[key], rel=1e-12)
    assert several["throughput_per_s"] == pytest.approx(replicas * one["throughput_per_s"])
    for key in ("capacity_bytes", "peak_bytes"):
        assert several["memory"][key] == replicas * one["memory"][key]
    assert several["energy_j"] is None or several["energy_j"] == pytest.approx(replicas * one["energy_j"])


# A mebibyte each way and hardly any work: what is moved between host and IPU takes longest. Four IPUs share a machine's
# link, so that of one machine is full with one of them; the next four have the next machine's.
def test_replicas_share_the_link_of_a_machine(unit_pod, tmp_path):
    save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], (16, 64))
    rates = {}
    for replicas in (1, 2, 4, 8):
        row = compared(tmp_path / "m.onnx", unit_pod, "--replicas", replicas)
        assert row["limited_by"] == "host link"
        assert row["host_interval_s"] == pytest.approx(min(replicas, 4) * row["host_s"])
        rates[replicas] = row["throughput_per_s"]
    assert rates[2] == pytest.approx(rates[1]) and rates[4] == pytest.approx(rates[1])
    assert rates[8] == pytest.approx(2 * rates[1])
    # 1 GB/s, 4 KiB in and 4 KiB out, 16 samples.
    assert rates[1] == pytest.approx(16 / (8192 / 1e9))


# Of 262 KB of a tile the input and its copy as it is summed take 150 and the weights later 115: one IPU is too small,
# two are enough, since the input is gone when the weights are read.
def test_values_count_where_they_are_live(unit_pod, tmp_path):
    random = np.random.default_rng(4)
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["s"], name="sum", keepdims=0),
         helper.make_node("MatMul", ["s", "w"], ["y"], name="product")], "model",
        [helper.make_tensor_value_info("x", FLOAT, (40, 8, 940))], [helper.make_tensor_value_info("y", FLOAT, (8, 940))],
        [numpy_helper.from_array(random.standard_normal((940, 940)).astype(np.float32), "w"),
         numpy_helper.from_array(np.array([0]), "axes")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    message = command("compile", tmp_path / "m.onnx", "--machine", unit_pod, "--chips", 1, "-o", tmp_path / "m.qdl", code=1)
    assert "does not fit one IPU" in message
    made = json.loads(command("compile", tmp_path / "m.onnx", "--machine", unit_pod, "-o", tmp_path / "m.qdl", "--json"))
    assert made["chips"] == 2
    assert command("check", tmp_path / "m.qdl") == f"{tmp_path / 'm.qdl'}: legal\n"
    ran = json.loads(command("run", tmp_path / "m.qdl", "--random", 1, "--check", "--json"))
    assert ran["cycles"] == made["cycles"] and ran["relative_l2"] < 1e-2


# The host of the test bench's node splits the values of one chip at a time, at 4 GB/s; each chip has a link of its own.
def test_replicas_share_the_host_of_a_node(tmp_path):
    save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], (256, 64))
    bytes_moved = 2 * 256 * 64 * 4
    one, four = (compared(tmp_path / "m.onnx", "unit-tsp-node", "--replicas", replicas) for replicas in (1, 4))
    alone = 2e-6 + bytes_moved / 8e9 + bytes_moved / 4e9
    assert one["host_interval_s"] == one["host_s"] == pytest.approx(alone)
    assert four["host_s"] == one["host_s"]
    assert four["host_interval_s"] == pytest.approx(4 * bytes_moved / 4e9)
    assert four["host_interval_s"] > alone
    assert four["throughput_per_s"] == pytest.approx(4 * 256 / four["host_interval_s"])


@pytest.mark.parametrize("machine", UNITS)
def test_a_program_keeps_its_replicas(machine, gemms, tmp_path):
    program, text = tmp_path / "m.qdl", tmp_path / "m.txt"
    made = json.loads(command("compile", gemms, "--machine", machine, "--replicas", 2, "-o", program, "--json"))
    alone = json.loads(command("compile", gemms, "--machine", machine, "-o", tmp_path / "1.qdl", "--json"))
    assert (made["replicas"], alone["replicas"]) == (2, 1)
    assert made["memory_bytes"] == 2 * alone["memory_bytes"] and made["cycles"] == alone["cycles"]
    outputs = []
    for each in (program, tmp_path / "1.qdl"):
        ran = json.loads(command("run", each, "--random", 1, "--check", "--output", tmp_path / "y.npz", "--json"))
        assert ran["replicas"] == (2 if each == program else 1) and ran["cycles"] == made["cycles"]
        outputs.append((tmp_path / "y.npz").read_bytes())
    assert outputs[0] == outputs[1]
    assert json.loads(command("profile", program, "--json"))["figures"]["replicas"] == 2
    assert "in each of 2 replicas" in command("profile", program)
    command("disasm", program, "-o", text)
    assert ".replicas 2\n" in text.read_text()
    command("asm", text, "-o", tmp_path / "again.qdl")
    assert (tmp_path / "again.qdl").read_bytes() == program.read_bytes()
    # More than the machine has chips for.
    text.write_text(text.read_text().replace(".replicas 2\n", ".replicas 17\n"))
    command("asm", text, "-o", tmp_path / "more.qdl")
    assert "is not legal" in command("check", tmp_path / "more.qdl", code=1)
    assert "17 replicas of 1 chip" in command("run", tmp_path / "more.qdl", "--random", 1, code=1)


@pytest.mark.parametrize("machine", ["host", "null"])
def test_machines_of_one_chip_have_no_replicas(machine, gemms, tmp_path):
    program, text = tmp_path / "m.qdl", tmp_path / "m.txt"
    command("compile", gemms, "--machine", machine, "-o", program)
    text.write_text(command("disasm", program).replace(".chips 1\n", ".chips 1\n.replicas 2\n"))
    command("asm", text, "-o", program)
    assert "is not legal" in command("check", program, code=1)


def test_compare_refuses_names_before_it_compares(gemms):
    message = command("compare", gemms, "--machines", "bow-pod16,groqnode", "--stages-at", "secnd", code=2)
    assert "no node 'secnd'" in message
    rows = json.loads(command("compare", gemms, "--machines", "bow-pod16,bow-ipu,groqnode", "--stages-at", "second_relu", "--json"))
    status = {row["machine"]: row["status"] for row in rows["machines"]}
    # Only the tsp's kernel begins there.
    assert status == {"bow-pod16": "unsupported", "bow-ipu": "unsupported", "groqnode": "ok"}
    rows = json.loads(command("compare", gemms, "--machines", "bow-ipu,groqnode", "--replicas", 8, "--json"))["machines"]
    assert [row["status"] for row in rows] == ["does_not_fit", "ok"]
