#include "graph/import/Window.h"

#include "numerics/Convert.h"

#include <algorithm>
#include <cmath>

namespace quadrille::graph::importer {

static void requireLength(llvm::StringRef name, const std::vector<int64_t> &values, size_t expected) {
  if (values.size() != expected)
    refuse("attribute '" + name + "' has " + llvm::Twine(values.size()) + " elements instead of " +
           llvm::Twine(expected));
}

static void requireRange(llvm::StringRef name, const std::vector<int64_t> &values, int64_t least) {
  for (int64_t value : values)
    if (value < least || value > int64_t(1) << 31)
      refuse("attribute '" + name + "' holds " + llvm::Twine(value));
}

Window windowOf(OperatorContext &c, llvm::ArrayRef<int64_t> spatial, std::vector<int64_t> kernel) {
  size_t rank = spatial.size();
  Window w;
  w.kernel = c.integerList("kernel_shape", kernel);
  if (w.kernel.empty() && rank != 0)
    refuse("required attribute 'kernel_shape' is missing");
  if (!kernel.empty() && w.kernel != kernel)
    refuse("attribute 'kernel_shape' is " + shapeText(w.kernel) + ", but the weight's is " + shapeText(kernel));
  w.strides = c.integerList("strides", std::vector<int64_t>(rank, 1));
  w.dilations = c.integerList("dilations", std::vector<int64_t>(rank, 1));
  requireLength("kernel_shape", w.kernel, rank);
  requireLength("strides", w.strides, rank);
  requireLength("dilations", w.dilations, rank);
  requireRange("kernel_shape", w.kernel, 1);
  requireRange("strides", w.strides, 1);
  requireRange("dilations", w.dilations, 1);
  std::string automatic = c.text("auto_pad", "NOTSET");
  std::vector<int64_t> pads = c.integerList("pads", std::vector<int64_t>(2 * rank, 0));
  requireLength("pads", pads, 2 * rank);
  requireRange("pads", pads, 0);
  bool ceiling = c.flag("ceil_mode");
  w.padBefore.assign(rank, 0);
  w.padAfter.assign(rank, 0);
  for (size_t d = 0; d < rank; ++d) {
    int64_t extent = (w.kernel[d] - 1) * w.dilations[d] + 1;
    if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
      w.result.push_back((spatial[d] + w.strides[d] - 1) / w.strides[d]);
      int64_t total = std::max<int64_t>((w.result[d] - 1) * w.strides[d] + extent - spatial[d], 0);
      w.padBefore[d] = automatic == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.padAfter[d] = total - w.padBefore[d];
      continue;
    }
    if (automatic == "NOTSET") {
      w.padBefore[d] = pads[d];
      w.padAfter[d] = pads[rank + d];
    } else if (automatic != "VALID") {
      refuse("auto_pad is '" + automatic + "' instead of NOTSET, SAME_UPPER, SAME_LOWER or VALID");
    }
    int64_t slack = spatial[d] + w.padBefore[d] + w.padAfter[d] - extent;
    if (slack < 0)
      refuse("a window of extent " + llvm::Twine(extent) + " does not fit into " +
             llvm::Twine(spatial[d] + w.padBefore[d] + w.padAfter[d]) + " padded elements");
    int64_t result = (ceiling ? (slack + w.strides[d] - 1) / w.strides[d] : slack / w.strides[d]) + 1;
    // A window that would begin in the padding after the operand is left out.
    if (ceiling && (result - 1) * w.strides[d] >= spatial[d] + w.padBefore[d])
      --result;
    w.result.push_back(result);
  }
  return w;
}

TensorRef padFor(OperatorContext &c, TensorRef operand, const Window &window, Scalar value) {
  size_t leading = operand.rank() - window.rank();
  std::vector<int64_t> before(operand.rank(), 0), after(operand.rank(), 0);
  bool any = false;
  for (size_t d = 0; d < window.rank(); ++d) {
    before[leading + d] = window.padBefore[d];
    // What the windows reach, which ceil_mode can extend past the padding and floor can leave short of it.
    after[leading + d] = std::max<int64_t>(window.reach(d) - window.padBefore[d] - operand.shape()[leading + d], 0);
    any |= before[leading + d] != 0 || after[leading + d] != 0;
  }
  return any ? c.pad(operand, before, after, value) : operand;
}

Scalar scalarOf(ElementType type, double number) {
  return {type, bitsFromDouble(type, number, !std::isinf(number))};
}

Scalar lowestOf(ElementType type) {
  switch (kindOf(type)) {
  case ElementKind::Float:
    return scalarOf(type, -std::numeric_limits<double>::infinity());
  case ElementKind::Signed:
    return {type, uint64_t(1) << (bitWidth(type) - 1)};
  default:
    return {type, 0};
  }
}

Scalar highestOf(ElementType type) {
  uint64_t ones = bitWidth(type) == 64 ? ~uint64_t(0) : (uint64_t(1) << bitWidth(type)) - 1;
  switch (kindOf(type)) {
  case ElementKind::Float:
    return scalarOf(type, std::numeric_limits<double>::infinity());
  case ElementKind::Signed:
    return {type, ones >> 1};
  default:
    return {type, ones};
  }
}

} // namespace quadrille::graph::importer
