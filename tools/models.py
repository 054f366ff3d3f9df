"""The small real models in models/ and the zoo of larger ones, on the reference: beside golden data and ONNX Runtime.

Usage: models.py [--markdown] [--repeat N] [--batch N] [NAME...]   (default: the folders of models/; `zoo` is all of the zoo)

A model of the zoo (tools/zoo.py) is exported to build/models/NAME.onnx first, when that is older than what exports it.
Relative L2 errors are against the golden outputs that came with the model and against ONNX Runtime on the same inputs; times
are medians of both, on the same cores, in one run. Planning is given as time and peak memory of whole commands: inspect,
which imports and normalises, and for models without weights also compile.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import zoo

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUADRILLE = os.environ.get("QUADRILLE", ROOT / "build/bin/quadrille")
REPEATS = 15

# name: (file, arguments that fix what the file leaves open, tolerance against golden data)
MODELS = {
    "mnist_8": ("model.onnx", [], 1e-5),
    "mnist_quantized": ("model_quantized.onnx", [], None),  # its golden output is the float model's
    "mnist_pytorch": ("pytorch.onnx", [], None),
    "super_resolution_10": ("model.onnx", ["--batch", "1"], 1e-5),
    "squeezenet_fp16": ("SqueezeNet_fp16.onnx", [], None),
    "ultraface": ("version-RFB-320_without_postprocessing.onnx", [], None),
    "silero_vad": ("silero_vad_16k_op15.onnx", ["--bind", "sr=16000"], None),
}
# Inputs for the open dimensions of silero-vad: one window of 512 samples at 16 kHz.
EXAMPLE_SHAPES = {"silero_vad": {"input": (1, 512), "state": (2, 1, 128)}, "super_resolution_10": {"input": (1, 1, 224, 224)}}
BOUND = {"silero_vad": {"sr": np.array(16000, dtype=np.int64)}}


def quadrille(*arguments):
    done = subprocess.run([QUADRILLE, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"quadrille {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done


def relative_l2(got, wanted):
    got, wanted = got.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    return float(np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-30))


def read_pb(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def run(name, model, extra, inputs, folder, repeat=1):
    np.savez(folder / "in.npz", **inputs)
    done = quadrille("run", model, "--machine", "host", *extra, "--input", folder / "in.npz", "--output",
                     folder / "out.npz", "--json", "--repeat", repeat)
    return dict(np.load(folder / "out.npz")), json.loads(done.stdout)


def golden_error(name, model, extra, folder):
    errors = []
    for data in sorted(model.parent.glob("test_data_set_*")):
        proto = onnx.load(model)
        initializers = {tensor.name for tensor in proto.graph.initializer}
        names = [value.name for value in proto.graph.input if value.name not in initializers]
        inputs = {n: read_pb(data / f"input_{i}.pb") for i, n in enumerate(names)}
        outputs, _ = run(name, model, extra, inputs, folder)
        for i, value in enumerate(proto.graph.output):
            errors.append(relative_l2(outputs[value.name], read_pb(data / f"output_{i}.pb")))
    return max(errors) if errors else None


def measure(name, repeats):
    """(golden error or None, its tolerance or None, error against ONNX Runtime, its tolerance, host ms, ORT ms)"""
    file, extra, tolerance = MODELS[name]
    model = ROOT / "models" / name / file
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        golden = golden_error(name, model, extra, folder)
        session = ort_session(model)
        generator = np.random.default_rng(1)
        bound = BOUND.get(name, {})
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        inputs = {}
        for port in session.get_inputs():
            if port.name not in bound:
                shape = EXAMPLE_SHAPES.get(name, {}).get(port.name, port.shape)
                inputs[port.name] = generator.standard_normal(shape).astype(types[port.type])
        outputs, report = run(name, model, extra, inputs, folder, repeats)
        reference, ort_ms = ort_run(session, {**inputs, **bound}, repeats)
        error = max(relative_l2(outputs[port.name], value) for port, value in zip(session.get_outputs(), reference))
    limit = 1e-2 if report["precision"] in ("f16", "i8", "u8") else 1e-4
    return golden, tolerance, error, limit, report["wall_s"]["simulate"] * 1e3, ort_ms


FLOP_TOLERANCE = 0.05  # the published figures count matrix products only
PLANNING_LIMITS = {"resnet50": (0.5, math.inf), "llama2_7b_shape": (5, 2**30)}  # seconds, bytes
ZOO_WIDTHS = [-24, -11, 9, 14, 8, 16, 8, 22, 9, 6, 7]
CLASS_IMAGES, CLASS_SEED, FEWEST_CLASSES = 50, 50, 10
EXPORTING = [pathlib.Path(zoo.__file__), *sorted(pathlib.Path(zoo.__file__).parent.glob("zoo_*.py"))]


def exported(name):
    """build/models/NAME.onnx, made if it is older than what makes it."""
    file = zoo.MODELS_DIRECTORY / f"{name}.onnx"
    if not file.exists() or file.stat().st_mtime < max(script.stat().st_mtime for script in EXPORTING):
        requirements, mark = ROOT / "tools/requirements-models.txt", ROOT / ".venv/installed-models"
        if not mark.exists() or mark.stat().st_mtime < requirements.stat().st_mtime:
            print("installing what exports models", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements],
                           check=True)
            mark.touch()
        print(f"exporting {name}", file=sys.stderr)
        done = subprocess.run([sys.executable, "-W", "ignore", EXPORTING[0].parent / "zoo_export.py", name, file],
                              capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode:
            raise SystemExit(f"exporting {name}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return file


def ort_session(model, optimized=True):
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ort_run(session, inputs, repeats):
    """(outputs, median of the times in ms)"""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        outputs = session.run(None, inputs)
        times.append(time.perf_counter() - begin)
    return outputs, statistics.median(times) * 1e3


def declared_inputs(session, arrays):
    """Exporters drop inputs that nothing reads, and Keras chooses names of its own."""
    names = [port.name for port in session.get_inputs()]
    return dict(zip(names, arrays.values())) if len(names) == len(arrays) == 1 else {name: arrays[name] for name in names}


def measure_zoo(name, repeats, batch):
    """A row of the results: what inspect counts, the error against ONNX Runtime, both times, the number of classes."""
    entry, file = zoo.MODELS[name], exported(name)
    planning, text = measured("inspect", file, "--batch", batch, "--json")
    counted = json.loads(text)
    row = {"model": name, "exporter": entry.exporter, "inspect": planning}
    if counted["unsupported"]:
        raise SystemExit(f"{name}: {counted['unsupported'][:5]}")
    row |= {"operators": sum(counted["operators"].values()), "parameters": entry.parameters or counted["parameters"],
            "gflop": counted["flops"] / batch / 1e9}
    if entry.inputs is None:
        with tempfile.TemporaryDirectory() as directory:
            to = pathlib.Path(directory) / "model.qdl"
            return row | {"compile": timed("compile", file, "--machine", "host", "--batch", batch, "-o", to)}
    session = ort_session(file)
    inputs = declared_inputs(session, entry.inputs(batch, 7))
    with tempfile.TemporaryDirectory() as directory:
        outputs, report = run(name, file, ["--batch", batch], inputs, pathlib.Path(directory), repeats)
    reference, ort_ms = ort_run(session, inputs, repeats)
    row["error"] = max(relative_l2(outputs[port.name], value) for port, value in zip(session.get_outputs(), reference))
    row |= {"host_ms": report["wall_s"]["simulate"] * 1e3, "ort_ms": ort_ms}
    if entry.exporter == "quantised":
        # ONNX Runtime's own evaluations of such a file differ (docs/models.md), so it is no exact measure. The same network
        # with the operators of ONNX that are defined in integers is.
        defined = ort_session(with_integer_operators(onnx.load(file)).SerializeToString(), optimized=False)
        row["unequal"] = [port.name for port, value in zip(defined.get_outputs(), defined.run(None, inputs))
                          if not np.array_equal(outputs[port.name], value)]
        row["inexact"] = inexact_operators(file, inputs, batch)
    else:
        row["limit"] = 1e-4
    if entry.classes:
        row["classes"] = count_classes(session, entry)
    return row


def quantised_products(graph):
    """Every Conv, Gemm and MatMul between DequantizeLinear and QuantizeLinear: (node, those before, the one after)."""
    makers = {output: node for node in graph.node for output in node.output}
    readers = {}
    for node in graph.node:
        for read in node.input:
            readers.setdefault(read, []).append(node)
    for node in graph.node:
        after, before = readers.get(node.output[0], []), [makers.get(read) for read in node.input]
        if (node.op_type in ("Conv", "Gemm", "MatMul") and [n.op_type for n in after] == ["QuantizeLinear"]
                and all(n is not None and n.op_type == "DequantizeLinear" for n in before)):
            yield node, before, after[0]


def with_integer_operators(model):
    """A copy with QLinearConv, QLinearMatMul or ONNX Runtime's QGemm for each of the quantised products.

    Signed weights become unsigned, 128 higher like their zero points. On CPUs with AVX2 and without VNNI, ONNX Runtime adds
    products of u8 and i8 in pairs that saturate at 16 bits; of u8 and u8 it does not.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    initial = {tensor.name: tensor for tensor in made.graph.initializer}

    def unsigned(name):
        if name not in initial or initial[name].data_type != onnx.TensorProto.INT8:
            return name
        if (moved := f"{name}_unsigned") not in initial:
            values = (numpy_helper.to_array(initial[name]).astype(np.int16) + 128).astype(np.uint8)
            initial[moved] = numpy_helper.from_array(values, moved)
            made.graph.initializer.append(initial[moved])
        return moved

    for node, before, after in list(quantised_products(made.graph)):
        operands, bias = [name for n in before[:2] for name in n.input], [n.input[0] for n in before[2:]]
        operands[3], operands[5], to = unsigned(operands[3]), unsigned(operands[5]), after.input[1:]
        if node.op_type == "Gemm":
            # QGemm has no factor for the bias, whose integers are in steps of the sum.
            assert all(a.f == 1 for a in node.attribute if a.name == "beta")
            attributes = [a for a in node.attribute if a.name != "beta"]
            del node.attribute[:]
            node.attribute.extend(attributes)
            node.op_type, node.domain, node.input[:] = "QGemm", "com.microsoft", [*operands, *(bias or [""]), *to]
        else:
            node.op_type, node.input[:] = f"QLinear{node.op_type}", [*operands, *to, *bias]
        node.output[:] = after.output
        made.graph.node.remove(after)
    made.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return made


def quantised_operators(model, inputs):
    """Each of the quantised products as a model of its own, with the integers that it reads when the whole model is run on
    `inputs`: (name, model, inputs)."""
    graph, initial = model.graph, {tensor.name for tensor in model.graph.initializer}
    found = [(node, [*before, node, after], [n.input[0] for n in before if n.input[0] not in initial])
             for node, before, after in quantised_products(graph)]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    types = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    whole.graph.output.extend(types[name] for name in dict.fromkeys(name for _, _, read in found for name in read))
    session = ort_session(whole.SerializeToString())
    values = dict(zip([port.name for port in session.get_outputs()], session.run(None, inputs)))
    for node, nodes, read in found:
        needed = {name for n in nodes for name in n.input}
        ports = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype),
                                                    values[name].shape) for name in read]
        single = onnx.helper.make_graph(nodes, "single", ports, [types.get(nodes[-1].output[0]) or graph.output[0]],
                                        [tensor for tensor in graph.initializer if tensor.name in needed])
        yield (node.name, onnx.helper.make_model(single, opset_imports=model.opset_import, ir_version=model.ir_version),
               {name: values[name] for name in read})


def inexact_operators(file, inputs, batch=1):
    """(names of the integer operators whose result is not, bit for bit, ONNX Runtime's; how many there are)"""
    names, count = [], 0
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        for name, model, integers in quantised_operators(onnx.load(file), inputs):
            onnx.save(model, folder / "single.onnx")
            outputs, _ = run(name, folder / "single.onnx", ["--batch", batch], integers, folder)
            (wanted,) = ort_session(with_integer_operators(model).SerializeToString(), optimized=False).run(None, integers)
            (got,) = outputs.values()
            count += 1
            if got.dtype != wanted.dtype or not np.array_equal(got, wanted):
                names.append(name)
    return names, count


def count_classes(session, entry):
    (drawn,) = entry.inputs(CLASS_IMAGES, CLASS_SEED).values()
    port = session.get_inputs()[0].name
    return len({int(np.argmax(session.run(None, {port: image[None]})[0])) for image in drawn})


# Peak memory passes from a process to what it starts, so the command is started by a small one, not by this.
TIMING = """
import resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.run(sys.argv[1:]).returncode
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)
"""


def timed(*arguments):
    """(seconds, peak bytes) of one command of quadrille."""
    return measured(*arguments)[0]


def measured(*arguments):
    """((seconds, peak bytes), what it prints) of one command of quadrille."""
    done = subprocess.run([sys.executable, "-c", TIMING, QUADRILLE, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"quadrille {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    seconds, peak = done.stderr.splitlines()[-1].split()
    return (float(seconds), int(peak)), done.stdout


def print_zoo(row, markdown):
    findings = []
    if "limit" in row and not row["error"] <= row["limit"]:
        findings.append(f"differs from ONNX Runtime by {row['error']:.1e}, more than {row['limit']:.1e}")
    if row.get("classes", FEWEST_CLASSES) < FEWEST_CLASSES:
        findings.append(f"gives {row['classes']} classes for {CLASS_IMAGES} images")
    published = zoo.MODELS[row["model"]].gflop
    if published is not None and abs(row["gflop"] / published - 1) > FLOP_TOLERANCE:
        findings.append(f"takes {row['gflop']:.4g} GFLOP, published are {published:g}")
    if row.get("unequal"):
        findings.append(f"in integers, these outputs are not bit for bit ONNX Runtime's: {row['unequal']}")
    seconds, peak = PLANNING_LIMITS.get(row["model"], (math.inf, math.inf))
    for what in ("inspect", "compile"):
        taken, held = row.get(what, (0, 0))
        if taken > seconds or held > peak:
            findings.append(f"{what} takes {taken:.2f} s and {held / 2**20:.0f} MiB, allowed are {seconds} s and "
                            f"{peak / 2**20:.0f} MiB")
    inexact, count = row.get("inexact", ([], 0))
    if inexact:
        findings.append(f"{len(inexact)} of {count} integer operators are not bit for bit ONNX Runtime's: {inexact[:5]}")
    cells = [row["model"], row["exporter"], str(row["operators"]), f"{row['parameters']:,}", f"{row['gflop']:.3g}",
             f"{row['inspect'][0]:.2f} s, {row['inspect'][1] / 2**20:.0f} MiB"]
    if "error" in row:
        cells += [f"{row['error']:.1e}", f"{row['host_ms']:.2f}", f"{row['ort_ms']:.2f}",
                  f"{row['host_ms'] / row['ort_ms']:.2f}", str(row.get("classes", "-"))]
    else:
        cells += ["-", f"compile {row['compile'][0]:.2f} s, {row['compile'][1] / 2**20:.0f} MiB", *"---"]
    if markdown:
        print("| " + " | ".join(cells) + " |", flush=True)
    else:
        print(" ".join(f"{c:{'<' if w < 0 else '>'}{abs(w)}}" for c, w in zip(cells, ZOO_WIDTHS)), flush=True)
    for finding in findings:
        print(f"{row['model']} DISAGREES: {finding}", file=sys.stderr)
    return bool(findings)


def run_zoo(names, markdown, repeats, batch):
    heads = ["model", "exporter", "operators", "parameters", "GFLOP", "inspect", "ORT L2", "host ms", "ORT ms", "ratio",
             "classes"]
    if markdown:
        print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    else:
        print(" ".join(f"{c:{'<' if w < 0 else '>'}{abs(w)}}" for c, w in zip(heads, ZOO_WIDTHS)))
    return sum(print_zoo(measure_zoo(name, repeats, batch), markdown) for name in names)


def run_small(names, repeats):
    failed = 0
    print(f"{'model':22} {'golden L2':>10} {'ORT L2':>10} {'host ms':>9} {'ORT ms':>9} {'ratio':>6}")
    for name in names:
        golden, tolerance, error, limit, host_ms, ort_ms = measure(name, repeats)
        bad = (tolerance is not None and not golden <= tolerance) or not error <= limit
        failed += bad
        shown = "-" if golden is None else f"{golden:.2e}"
        print(f"{name:22} {shown:>10} {error:10.2e} {host_ms:9.2f} {ort_ms:9.2f} {host_ms / ort_ms:6.2f}"
              f"{'  DISAGREES' if bad else ''}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--repeat", type=int, default=REPEATS)
    parser.add_argument("--batch", type=int, default=1, help="samples at once, for the models of the zoo")
    options = parser.parse_args()
    names = [n for name in options.names for n in (zoo.MODELS if name == "zoo" else [name])] or list(MODELS)
    unknown = [name for name in names if name not in MODELS and name not in zoo.MODELS]
    if unknown:
        raise SystemExit(f"unknown models: {', '.join(unknown)}; known: {', '.join([*MODELS, *zoo.MODELS])}")
    small, large = [n for n in names if n in MODELS], [n for n in names if n in zoo.MODELS]
    failed = (run_small(small, options.repeat) if small else 0)
    failed += run_zoo(large, options.markdown, options.repeat, options.batch) if large else 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
