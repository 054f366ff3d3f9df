// Inputs of a program: from files, or random.
#pragma once

#include "driver/Commands.h"
#include "driver/TensorFile.h"
#include "program/Program.h"

namespace quadrille::driver {

// "name=value" split at the first '='; a user error that names `option` otherwise.
llvm::Expected<std::pair<std::string, std::string>> splitAssignment(llvm::StringRef text, llvm::StringRef option);

// Reads the files of --input (or --expected). Arrays without a name of their own take the one given as NAME=FILE.
llvm::Expected<NamedTensors> readNamedTensors(llvm::ArrayRef<std::string> files, llvm::StringRef option);

// What is asked of an input: name, type, shape.
struct Port {
  std::string name;
  ElementType type = ElementType::f32;
  Shape shape;
};
// The entry point that --entry names; for "" it is "inference", or the first one when none is called so. A user error
// that lists them when there is none of that name.
llvm::Expected<std::string> entryPointNamed(const program::Program &program, llvm::StringRef name);

std::vector<Port> inputPorts(const program::Program &program, llvm::StringRef entryPoint);

// The tensors for `ports`: from `given` (checked for name, type and shape; a nameless array serves a single port), else
// random ones from the seed. User errors name the input, what is wanted and what was found.
llvm::Expected<NamedTensors> bindInputs(llvm::ArrayRef<Port> ports, NamedTensors given, std::optional<uint64_t> seed);

// Floats are normal with mean 0 and deviation 1, rounded to the type; integers of up to 16 bits uniform
// over their range, wider ones (often indices) uniform in [0, 10); booleans fair.
// Element i depends on seed, name and i alone.
Tensor randomTensor(const Port &port, uint64_t seed);

} // namespace quadrille::driver
