// Typed access to a kernel's attributes; user errors name the kernel's operation and the attribute.
#pragma once

#include "base/Error.h"
#include "graph/KernelGraph.h"

namespace quadrille::host {

class Attributes {
public:
  explicit Attributes(const graph::Kernel &kernel) : kernel(kernel) {}

  template <typename T> llvm::Expected<T> get(llvm::StringRef name) const {
    auto found = kernel.attributes.find(name.str());
    if (found == kernel.attributes.end())
      return missing(name, "is missing");
    if (const T *value = std::get_if<T>(&found->second))
      return *value;
    return missing(name, "has the wrong type");
  }
  template <typename T> llvm::Expected<T> get(llvm::StringRef name, T otherwise) const {
    if (kernel.attributes.find(name.str()) == kernel.attributes.end())
      return otherwise;
    return get<T>(name);
  }
  // An axis, counted from the end where negative, in [0, rank).
  llvm::Expected<int64_t> axis(size_t rank) const {
    llvm::Expected<int64_t> value = get<int64_t>("axis");
    if (!value)
      return value;
    int64_t axis = *value < 0 ? *value + static_cast<int64_t>(rank) : *value;
    if (axis < 0 || axis >= static_cast<int64_t>(rank))
      return missing("axis", "is out of range");
    return axis;
  }

private:
  llvm::Error missing(llvm::StringRef name, const char *what) const {
    return userError("kernel '" + kernel.operation + "': attribute '" + name + "' " + what);
  }
  const graph::Kernel &kernel;
};

} // namespace quadrille::host
