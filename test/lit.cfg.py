# Tests in MLIR's textual form and of the command line: each file says in RUN lines how it is run.
import os

import lit.formats

config.name = "quadrille"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["lit.cfg.py", "lit.site.cfg.py"]
config.test_source_root = config.source_root
config.test_exec_root = os.path.join(config.build_root, "test")

config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.build_root, "bin"), config.llvm_tools, config.environment.get("PATH", "")]
)
# Sanitized tools find their symbolizer and options in the environment.
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "ASAN_SYMBOLIZER_PATH"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
