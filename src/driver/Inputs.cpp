#include "driver/Inputs.h"

#include "base/Error.h"
#include "base/Mix.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/xxhash.h"

#include <cmath>
#include <cstring>
#include <numbers>

namespace quadrille::driver {

llvm::Expected<std::pair<std::string, std::string>> splitAssignment(llvm::StringRef text, llvm::StringRef option) {
  auto [name, value] = text.split('=');
  if (name.empty() || value.empty())
    return userError(option + " '" + text + "' is not of the form NAME=VALUE");
  return std::make_pair(name.str(), value.str());
}

llvm::Expected<NamedTensors> readNamedTensors(llvm::ArrayRef<std::string> files, llvm::StringRef option) {
  NamedTensors all;
  for (const std::string &argument : files) {
    // NAME=FILE; a path that itself contains '=' can be given as ./a=b.npz, since names hold no '/'.
    llvm::StringRef name, path = argument;
    if (auto [before, after] = path.split('='); !after.empty() && !before.contains('/'))
      name = before, path = after;
    auto tensors = readTensorFile(path);
    if (!tensors)
      return tensors.takeError();
    if (!name.empty()) {
      if (tensors->size() != 1)
        return userError(option + " " + argument + ": NAME= needs a file with one array, found " +
                         llvm::Twine(tensors->size()));
      Tensor tensor = std::move(tensors->begin()->second);
      tensors->clear();
      tensors->emplace(name.str(), std::move(tensor));
    }
    for (auto &[key, tensor] : *tensors)
      if (!all.emplace(key, std::move(tensor)).second)
        return userError(option + ": array '" + key + "' is given twice", {path.str(), ""});
  }
  return all;
}

llvm::Expected<std::string> entryPointNamed(const program::Program &program, llvm::StringRef name) {
  std::vector<std::string> names;
  for (const program::EntryPoint &entry : program.entryPoints) {
    if (entry.name == (name.empty() ? "inference" : name))
      return entry.name;
    names.push_back("'" + entry.name + "'");
  }
  if (name.empty() && !program.entryPoints.empty())
    return program.entryPoints.front().name;
  return userError("--entry: the program has no entry point '" + name + "'", {},
                   names.empty() ? "" : "choose one of: " + llvm::join(names, ", "));
}

std::vector<Port> inputPorts(const program::Program &program, llvm::StringRef entryPoint) {
  std::vector<Port> ports;
  for (const program::EntryPoint &entry : program.entryPoints)
    if (entry.name == entryPoint)
      for (uint32_t index : entry.inputs) {
        const program::Variable &variable = program.variables[index];
        ports.push_back({variable.name, variable.type, variable.shape});
      }
  return ports;
}

static llvm::Error checkAgainst(const Port &port, const Tensor &tensor) {
  if (tensor.type() == port.type && tensor.shape() == port.shape)
    return llvm::Error::success();
  std::string remedy;
  if (tensor.type() == ElementType::f64 && port.type == ElementType::f32)
    remedy = "NumPy makes float64 by default: use x.astype(numpy.float32)";
  return userError("wants " + describe(port.type, port.shape) + ", found " + describe(tensor.type(), tensor.shape()),
                   {"", "input '" + port.name + "'"}, remedy);
}

llvm::Expected<NamedTensors> bindInputs(llvm::ArrayRef<Port> ports, NamedTensors given, std::optional<uint64_t> seed) {
  if (auto nameless = given.find(""); nameless != given.end() && ports.size() == 1 && !given.count(ports[0].name)) {
    given.emplace(ports[0].name, nameless->second);
    given.erase("");
  }
  auto names = [&] {
    return llvm::join(llvm::map_range(ports, [](const Port &port) { return "'" + port.name + "'"; }), ", ");
  };
  NamedTensors bound;
  for (const Port &port : ports) {
    auto it = given.find(port.name);
    if (it != given.end()) {
      // Formats that NumPy cannot name arrive as raw integers of the same width, or as f32.
      Tensor tensor = it->second;
      if (isFloat(port.type) && byteWidth(port.type) <= 2 && port.type != ElementType::f16) {
        if (tensor.type() == (byteWidth(port.type) == 2 ? ElementType::u16 : ElementType::u8))
          tensor = Tensor::borrow(port.type, tensor.shape(), tensor.bytes(), std::make_shared<Tensor>(tensor));
        else if (tensor.type() == ElementType::f32)
          tensor = convert(tensor, port.type);
      }
      if (llvm::Error error = checkAgainst(port, tensor))
        return error;
      bound.emplace(port.name, std::move(tensor));
      given.erase(it);
    } else if (seed) {
      bound.emplace(port.name, randomTensor(port, *seed));
    } else {
      return userError("no value for input '" + port.name + "' (" + describe(port.type, port.shape) + ")", {},
                       "give --input FILE.npz or --random SEED");
    }
  }
  if (!given.empty())
    return userError("there is no input '" + given.begin()->first + "'; the inputs are " + names());
  return bound;
}

namespace {

// A bijection of the counter, so every element is independent of how many were drawn before.
uint64_t mix(uint64_t counter) {
  return splitMix(counter + splitMixIncrement);
}

// In (0, 1).
double uniform(uint64_t key, uint64_t counter) {
  return (static_cast<double>(mix(key ^ mix(counter)) >> 11) + 0.5) * 0x1p-53;
}

} // namespace

Tensor randomTensor(const Port &port, uint64_t seed) {
  uint64_t key = mix(seed) ^ llvm::xxh3_64bits(port.name);
  int64_t count = elementCount(port.shape);
  if (isFloat(port.type)) {
    Tensor values = Tensor::uninitialized(ElementType::f32, port.shape);
    float *out = values.mutableData<float>();
    for (int64_t i = 0; i < count; ++i) // Box and Muller's transform
      out[i] = static_cast<float>(std::sqrt(-2 * std::log(uniform(key, 2 * i))) *
                                  std::cos(2 * std::numbers::pi * uniform(key, 2 * i + 1)));
    return port.type == ElementType::f32 ? values : convert(values, port.type);
  }
  // Values of narrow types, wrapped to the type's width by the conversion; wide integers stay small.
  Tensor values = Tensor::uninitialized(ElementType::i64, port.shape);
  unsigned bits = bitWidth(port.type);
  double range = bits <= 16 ? static_cast<double>(uint64_t(1) << bits) : 10;
  double lowest = kindOf(port.type) == ElementKind::Signed && bits <= 16 ? -range / 2 : 0;
  int64_t *out = values.mutableData<int64_t>();
  for (int64_t i = 0; i < count; ++i)
    out[i] = static_cast<int64_t>(std::floor(uniform(key, i) * range + lowest));
  return convert(values, port.type);
}

} // namespace quadrille::driver
