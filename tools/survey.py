"""Every model on a machine: does it compile, is the program legal, are its values right, and what it costs.

Usage: survey.py [--machine NAME] [--chips N] [--precision P] [--batch N] [--limit SECONDS] [--write FILE] [--classes] [NAME...]
       (default: groqcard, the models of models/ and all of the zoo)

The models are those of tools/models.py and are exported as there. `quadrille compare` says whether there is a program, its
cycles and its share of the peak; `quadrille run --check` executes it on the zoo's inputs and compares with the reference,
for models that have weights. A command that takes longer than the limit is ended. --write replaces the table in a
document, between the two lines that name this script. --classes compares the classes that the classifiers give to the
zoo's 50 test images instead, one image a run, with those of the host. Exit code 1 when a machine failed or values disagree.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx

import models
import zoo

HEADS = ["model", "status", "chips", "cycles", "of peak", "limited by", "memory MiB", "L2", "compile s", "estimate s",
         "simulate s", "peak MiB"]
SHAPE_ONLY = ["attention_head", "mobilenetv2", "resnet18", "swiglu_256_4096_14336"]


def known():
    """{name: (file, arguments that fix what the file leaves open, (batch) -> inputs by name; None: no weights)}"""
    entries = {name: (models.ROOT / "models" / name / file, extra, small_inputs(name))
               for name, (file, extra, _) in models.MODELS.items()}
    for name in SHAPE_ONLY:
        entries[f"shape_only/{name}"] = (models.ROOT / f"models/shape_only/{name}.onnx", [], None)
    for name, entry in zoo.MODELS.items():
        entries[name] = (None, ["--batch", None], entry.inputs and (lambda batch, entry=entry: entry.inputs(batch, 7)))
    return entries


def small_inputs(name):
    """None stands for random values: the shapes are in the file."""
    shapes = models.EXAMPLE_SHAPES.get(name)
    return lambda batch: shapes and {port: np.random.default_rng(1).standard_normal(shape, np.float32)
                                     for port, shape in shapes.items()}


def quadrille(limit, *arguments):
    """(exit code, standard output, standard error, peak bytes); exit code None when the limit was reached."""
    process = subprocess.Popen([sys.executable, "-c", models.TIMING, models.QUADRILLE, *map(str, arguments)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, error = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        subprocess.run(["kill", "--", f"-{process.pid}"], check=False)
        process.communicate()
        return None, "", "", 0
    *message, timing = error.splitlines()
    return process.returncode, out, "\n".join(message), int(timing.split()[1])


def survey(name, entry, machine, chips, precision, batch, limit):
    """A row: {head: cell}, and "reason" where there is one."""
    file, extra, inputs = entry
    row = dict.fromkeys(HEADS, "-") | {"model": name}
    file = file or models.exported(name)
    fixed = [batch if argument is None else argument for argument in extra]
    if chips:
        fixed += ["--chips", chips]
    if precision:
        fixed += ["--precision", precision]
    made = inputs and inputs(batch)
    with tempfile.TemporaryDirectory() as directory:
        given = []
        if made:
            names = declared(file)
            made = dict(zip(names, made.values())) if len(names) == len(made) == 1 else {n: made[n] for n in names if n in made}
            np.savez(pathlib.Path(directory) / "in.npz", **made)
            given = ["--input", pathlib.Path(directory) / "in.npz"]
        # The inputs also fix the open dimensions of the small models.
        shapes = [f for port, array in (made or {}).items() if name in models.EXAMPLE_SHAPES
                  for f in shape_arguments(file, port, array)]
        code, out, error, peak = quadrille(limit, "compare", file, "--machines", machine, *fixed, *shapes, "--json")
        if not out:
            return row | {"status": f"over {limit} s" if code is None else f"exit {code}", "reason": error}
        report = json.loads(out)["machines"][0]
        row["status"] = report["status"].replace("_", " ")
        if report["status"] != "ok":
            return row | {"reason": report["reason"]}
        row |= {"chips": report["chips"], "cycles": f"{report['cycles']:,}", "limited by": report["limited_by"] or "-",
                "of peak": "-" if report["share_of_peak"] is None else f"{100 * report['share_of_peak']:.3g}%",
                "memory MiB": f"{report['memory']['peak_bytes'] / 2**20:.1f}"}
        if inputs is None:
            return row | {"status": "planned", "peak MiB": f"{peak / 2**20:.0f}"}
        given += ["--random", 1]  # for inputs that no file gives
        code, out, error, peak = quadrille(limit, "run", file, "--machine", machine, *fixed, *given, "--check", "--json")
        if not out:
            return row | {"status": f"over {limit} s" if code is None else f"exit {code}", "reason": error}
        report = json.loads(out)
        wall = report["wall_s"]
        row |= {"L2": "inf" if report["relative_l2"] is None else f"{report['relative_l2']:.1e}", "peak MiB": f"{peak / 2**20:.0f}",
                "compile s": f"{wall['compile']:.2f}", "estimate s": f"{wall['estimate']:.2f}", "simulate s": f"{wall['simulate']:.2f}"}
        return row | ({"status": "disagrees", "reason": error} if code else {})


def same_classes(name, machine, limit):
    """(images of which the machine gives the class that the host gives, images)"""
    file, count = models.exported(name), models.CLASS_IMAGES
    (drawn,) = zoo.MODELS[name].inputs(count, models.CLASS_SEED).values()
    port, output = declared(file)[0], onnx.load(file, load_external_data=False).graph.output[0].name
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)

        def classes(model, *options):
            code, _, error, _ = quadrille(limit, "run", model, *options, "--input", folder / "in.npz", "--output", folder / "out.npz")
            if code != 0:
                raise SystemExit(f"{name} on {machine}: {error or f'over {limit} s'}")
            return np.argmax(np.load(folder / "out.npz")[output], axis=-1)

        code, _, error, _ = quadrille(limit, "compile", file, "--machine", machine, "--batch", 1, "-o", folder / "m.qdl")
        if code != 0:
            raise SystemExit(f"{name} on {machine}: {error or f'over {limit} s'}")
        np.savez(folder / "in.npz", **{port: drawn})
        wanted = classes(file, "--machine", "host", "--batch", count)
        same = 0
        for image, label in zip(drawn, wanted):
            np.savez(folder / "in.npz", **{port: image[None]})
            same += classes(folder / "m.qdl")[0] == label
    return same, count


def declared(file):
    graph = onnx.load(file, load_external_data=False).graph
    initial = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in initial]


def shape_arguments(file, port, array):
    graph = onnx.load(file, load_external_data=False).graph
    value = next(value for value in graph.input if value.name == port)
    for dimension, extent in zip(value.type.tensor_type.shape.dim, array.shape):
        if dimension.dim_param:
            yield from ("--shape", f"{dimension.dim_param}={extent}")


def first_line(row):
    return row.get("reason", "").partition("\n")[0].removeprefix("quadrille: ")


def write(path, machine, rows, batch, limit):
    """Replaces what lies between the two lines that name this script."""
    document = path.read_text()
    mark = f"<!-- ./run survey --machine {machine} -->"
    before, _, after = document.partition(mark)
    _, closing, after = after.partition("<!-- end -->")
    if not closing:
        raise SystemExit(f"{path}: no '{mark}' and '<!-- end -->'")
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=models.ROOT, capture_output=True, text=True).stdout.strip()
    lines = [f"Measured on {datetime.date.today()} at revision {revision}, batch {batch}, {limit} s at most for one command.", "",
             "| " + " | ".join([*HEADS, "why not"]) + " |", "|" + " --- |" * (len(HEADS) + 1)]
    lines += ["| " + " | ".join([*(str(row[head]) for head in HEADS), first_line(row).replace("|", "\\|")]) + " |" for row in rows]
    path.write_text(before + mark + "\n" + "\n".join(lines) + "\n" + closing + after)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--machine", default="groqcard")
    parser.add_argument("--chips", type=int)
    parser.add_argument("--precision", help="of compile and run; default: the machine's")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--limit", type=int, default=600, help="seconds for one command")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--classes", action="store_true")
    options = parser.parse_args()
    if options.classes:
        for name in options.names or [name for name, entry in zoo.MODELS.items() if entry.classes]:
            print(f"{name}: the class of the host for %d of %d images" % same_classes(name, options.machine, options.limit), flush=True)
        return
    entries = known()
    unknown = [name for name in options.names if name not in entries]
    if unknown:
        raise SystemExit(f"unknown models: {', '.join(unknown)}; known: {', '.join(entries)}")
    widths = [max(len(head), 22 if head == "model" else 12 if head in ("status", "limited by") else 0) for head in HEADS]
    print("  ".join(f"{head:<{w}}" for head, w in zip(HEADS, widths)))
    rows = []
    for name in options.names or entries:
        row = survey(name, entries[name], options.machine, options.chips, options.precision, options.batch, options.limit)
        rows.append(row)
        print("  ".join(f"{row[head]!s:<{w}}" for head, w in zip(HEADS, widths)).rstrip()
              + "  " + first_line(row), flush=True)
    if options.write:
        write(options.write, options.machine, rows, options.batch, options.limit)
    sys.exit(any(row["status"] in ("failed", "disagrees") or row["status"].startswith("exit") for row in rows))


if __name__ == "__main__":
    main()
