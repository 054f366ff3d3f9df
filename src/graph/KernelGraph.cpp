#include "graph/KernelGraph.h"

#include "graph/CombineOf.h"
#include "graph/Contraction.h"
#include "graph/KernelQueries.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <cstring>

namespace quadrille::graph {

llvm::StringRef nameOf(KernelKind kind) {
  switch (kind) {
  case KernelKind::Contract:
    return "contract";
  case KernelKind::Map:
    return "map";
  case KernelKind::Reduce:
    return "reduce";
  case KernelKind::Window:
    return "window";
  case KernelKind::Move:
    return "move";
  case KernelKind::Composite:
    return "composite";
  case KernelKind::Other:
    return "other";
  }
  return "";
}

llvm::StringRef nameOf(Combiner combiner) {
  switch (combiner) {
  case Combiner::None:
    return "none";
  case Combiner::Sum:
    return "sum";
  case Combiner::Product:
    return "product";
  case Combiner::Minimum:
    return "minimum";
  case Combiner::Maximum:
    return "maximum";
  case Combiner::MinimumNumber:
    return "minimum_number";
  case Combiner::MaximumNumber:
    return "maximum_number";
  case Combiner::And:
    return "and";
  case Combiner::Or:
    return "or";
  case Combiner::Xor:
    return "xor";
  }
  return "";
}

llvm::StringRef nameOf(ValueRole role) {
  switch (role) {
  case ValueRole::Input:
    return "input";
  case ValueRole::Constant:
    return "constant";
  case ValueRole::Intermediate:
    return "intermediate";
  }
  return "";
}

bool Value::splat() const {
  constexpr size_t examinedBytes = 64 << 10;
  if (role != ValueRole::Constant || !data.valid() || data.byteSize() == 0 || data.byteSize() > examinedBytes)
    return false;
  llvm::ArrayRef<std::byte> bytes = data.bytes();
  size_t width = byteWidth(type);
  // All elements equal the first: the bytes equal themselves shifted by one element.
  return bytes.size() == width || std::memcmp(bytes.data(), bytes.data() + width, bytes.size() - width) == 0;
}

IndexRange indexRange(const DimensionAccess &access, llvm::ArrayRef<Loop> loops) {
  IndexRange range{access.offset, access.offset};
  for (auto [loop, coefficient] : access.terms) {
    int64_t reach = coefficient * (loops[loop].extent - 1);
    (reach < 0 ? range.first : range.last) += reach;
  }
  return range;
}

static bool validShape(llvm::ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    if (extent < 0 || extent > largestExtent || llvm::MulOverflow(count, std::max<int64_t>(extent, 1), count))
      return false;
  return count <= int64_t(1) << 56;
}

static std::string shapeOf(const Value &value) {
  return describe(value.type, value.shape);
}

namespace {
// Verifies one graph; every function returns an empty string or what is wrong.
class Verifier {
public:
  explicit Verifier(const KernelGraph &graph) : graph(graph), defined(graph.values.size()) {}

  std::string run() {
    for (auto [id, value] : llvm::enumerate(graph.values))
      if (std::string wrong = checkValue(value); !wrong.empty())
        return "value " + std::to_string(id) + ": " + wrong;
    for (ValueId id : graph.inputs) {
      if (id >= graph.values.size())
        return "input: no value " + std::to_string(id);
      if (graph.values[id].role != ValueRole::Input)
        return "input: value " + std::to_string(id) + " has another role";
      if (defined[id])
        return "input: value " + std::to_string(id) + " is listed twice";
      defined[id] = true;
    }
    for (auto [id, value] : llvm::enumerate(graph.values)) {
      if (value.role == ValueRole::Input && !defined[id])
        return "value " + std::to_string(id) + ": an input that the graph does not list";
      if (value.role == ValueRole::Constant)
        defined[id] = true;
    }
    for (auto [index, kernel] : llvm::enumerate(graph.kernels))
      if (std::string wrong = checkKernel(kernel); !wrong.empty())
        return "kernel " + std::to_string(index) + " (" + nameOf(kernel.kind).str() + " " + kernel.operation +
               "): " + wrong;
    for (ValueId id : graph.outputs)
      if (id >= graph.values.size() || !defined[id])
        return "output: value " + std::to_string(id) + " is never defined";
    if (graph.outputNames.size() != graph.outputs.size())
      return "there are " + std::to_string(graph.outputs.size()) + " outputs but " +
             std::to_string(graph.outputNames.size()) + " output names";
    return "";
  }

private:
  std::string checkValue(const Value &value) {
    if (!validShape(value.shape))
      return "negative or too large extents";
    if (value.role != ValueRole::Constant && value.data.valid())
      return "has data but is no constant";
    if (value.data.valid() && (value.data.type() != value.type || value.data.shape() != value.shape))
      return "is " + shapeOf(value) + " but its data is " + describe(value.data.type(), value.data.shape());
    return "";
  }

  std::string checkMap(const AccessMap &map, const Value &value, llvm::ArrayRef<Loop> loops, bool mayLeave) {
    if (map.size() != value.shape.size())
      return "the map has " + std::to_string(map.size()) + " dimensions, the value " +
             std::to_string(value.shape.size());
    bool empty = hasNoPoints(loops);
    for (auto [dimension, access] : llvm::enumerate(map)) {
      std::string prefix = "dimension " + std::to_string(dimension) + ": ";
      if (std::abs(access.offset) > largestExtent)
        return prefix + "offset too large";
      int64_t previous = -1;
      for (auto [loop, coefficient] : access.terms) {
        if (loop >= loops.size())
          return prefix + "no loop " + std::to_string(loop);
        if (static_cast<int64_t>(loop) <= previous)
          return prefix + "loops are not in ascending order";
        if (coefficient == 0 || std::abs(coefficient) > largestCoefficient)
          return prefix + "coefficient " + std::to_string(coefficient) + " of loop " + std::to_string(loop);
        previous = loop;
      }
      if (mayLeave || empty)
        continue;
      IndexRange range = indexRange(access, loops);
      if (range.first < 0 || range.last >= value.shape[dimension])
        return prefix + "indices " + std::to_string(range.first) + " to " + std::to_string(range.last) +
               " leave the extent " + std::to_string(value.shape[dimension]);
    }
    return "";
  }

  // Each element is written by exactly one point of the parallel loops: every dimension is one loop of its extent or
  // the constant 0 of extent 1, and the loops that do not occur are the reductions.
  std::string checkWriteMap(const AccessMap &map, const Value &value, llvm::ArrayRef<Loop> loops) {
    if (std::string wrong = checkMap(map, value, loops, /*mayLeave=*/true); !wrong.empty())
      return wrong;
    std::vector<bool> used(loops.size());
    for (auto [dimension, access] : llvm::enumerate(map)) {
      std::string prefix = "dimension " + std::to_string(dimension) + ": ";
      if (access.offset != 0 || access.terms.size() > 1 || (access.terms.size() == 1 && access.terms[0].second != 1))
        return prefix + "a write indexes by single loops only";
      int64_t extent = access.terms.empty() ? 1 : loops[access.terms[0].first].extent;
      if (extent != value.shape[dimension])
        return prefix + "writes " + std::to_string(extent) + " of " + std::to_string(value.shape[dimension]) +
               " elements";
      if (access.terms.empty())
        continue;
      unsigned loop = access.terms[0].first;
      if (used[loop])
        return prefix + "loop " + std::to_string(loop) + " occurs twice";
      used[loop] = true;
    }
    for (auto [index, loop] : llvm::enumerate(loops))
      if (loop.reduction == used[index])
        return "loop " + std::to_string(index) +
               (loop.reduction ? " is a reduction but indexes the result"
                               : " is parallel but does not index the result");
    return "";
  }

  std::string checkKernel(const Kernel &kernel) {
    for (auto [index, read] : llvm::enumerate(kernel.reads))
      if (read.value >= graph.values.size() || !defined[read.value])
        return "read " + std::to_string(index) + ": value " + std::to_string(read.value) + " is not defined yet";
    for (auto [index, write] : llvm::enumerate(kernel.writes)) {
      std::string prefix = "write " + std::to_string(index) + ": value " + std::to_string(write.value);
      if (write.value >= graph.values.size())
        return prefix + " does not exist";
      if (graph.values[write.value].role != ValueRole::Intermediate)
        return prefix + " is an input or a constant";
      if (defined[write.value])
        return prefix + " is already defined";
      if (write.initial && (write.initial->value >= graph.values.size() || !defined[write.initial->value]))
        return prefix + ": the initial value is not defined yet";
    }
    for (uint32_t node : kernel.nodes)
      if (node >= graph.nodes.size())
        return "no node " + std::to_string(node);
    if (kernel.writes.empty())
      return "writes nothing";
    std::string wrong = kernel.structured() ? checkStructured(kernel) : checkUnstructured(kernel);
    if (!wrong.empty())
      return wrong;
    for (const Write &write : kernel.writes) {
      if (defined[write.value])
        return "value " + std::to_string(write.value) + " is written twice";
      defined[write.value] = true;
    }
    return "";
  }

  std::string checkStructured(const Kernel &kernel) {
    if (kernel.region)
      return "a structured kernel has no region";
    int64_t points = 1;
    for (auto [index, loop] : llvm::enumerate(kernel.loops))
      if (loop.extent < 0 || loop.extent > largestExtent ||
          llvm::MulOverflow(points, std::max<int64_t>(loop.extent, 1), points))
        return "loop " + std::to_string(index) + ": extent " + std::to_string(loop.extent);
    const BlockExpression &body = kernel.body;
    if (std::string wrong = body.verify(); !wrong.empty())
      return "body: " + wrong;
    if (body.inputs.size() != kernel.reads.size() || body.results.size() != kernel.writes.size())
      return "the body has " + std::to_string(body.inputs.size()) + " inputs and " +
             std::to_string(body.results.size()) + " results for " + std::to_string(kernel.reads.size()) +
             " reads and " + std::to_string(kernel.writes.size()) + " writes";
    for (const BlockInstruction &instruction : body.instructions)
      if (instruction.opcode == BlockOpcode::LoopIndex && instruction.immediate >= kernel.loops.size())
        return "body: no loop " + std::to_string(instruction.immediate);
    for (auto [index, read] : llvm::enumerate(kernel.reads)) {
      const Value &value = graph.values[read.value];
      std::string prefix = "read " + std::to_string(index) + ": ";
      if (body.inputs[index] != value.type)
        return prefix + "the body takes " + nameOf(body.inputs[index]).str() + ", the value is " + shapeOf(value);
      if (read.padding && read.padding->type != value.type)
        return prefix + "the padding has another type than the value";
      if (std::string wrong = checkMap(read.map, value, kernel.loops, read.padding.has_value()); !wrong.empty())
        return prefix + wrong;
    }
    for (auto [index, write] : llvm::enumerate(kernel.writes)) {
      std::string prefix = "write " + std::to_string(index) + ": ";
      if (std::string wrong = checkWrite(kernel, write, body.instructions[body.results[index]].type); !wrong.empty())
        return prefix + wrong;
    }
    return "";
  }

  std::string checkWrite(const Kernel &kernel, const Write &write, ElementType bodyType) {
    const Value &value = graph.values[write.value];
    if (bodyType != value.type)
      return "the body gives " + nameOf(bodyType).str() + ", the value is " + shapeOf(value);
    if (std::string wrong = checkWriteMap(write.map, value, kernel.loops); !wrong.empty())
      return wrong;
    if (write.combiner == Combiner::None) {
      if (write.initial || write.initialScalar)
        return "an initial value without a combiner";
      if (hasReduction(kernel.loops))
        return "a reduction without a combiner";
      return "";
    }
    if (!combines(combineOf(write.combiner), value.type))
      return "elements of type " + nameOf(value.type).str() + " cannot be combined by " + nameOf(write.combiner).str();
    if (write.initial.has_value() == write.initialScalar.has_value())
      return "a combiner takes exactly one of a scalar and a tensor as initial value";
    if (write.initialScalar)
      return write.initialScalar->type == value.type ? "" : "the initial scalar has another type than the value";
    const Value &initial = graph.values[write.initial->value];
    if (initial.type != value.type)
      return "the initial value is " + shapeOf(initial) + ", the result " + shapeOf(value);
    for (const DimensionAccess &access : write.initial->map)
      for (auto [loop, coefficient] : access.terms)
        if (loop < kernel.loops.size() && kernel.loops[loop].reduction)
          return "the initial value is indexed by a reduction loop";
    std::string wrong = checkMap(write.initial->map, initial, kernel.loops, write.initial->padding.has_value());
    return wrong.empty() ? "" : "initial value: " + wrong;
  }

  std::string checkUnstructured(const Kernel &kernel) {
    if (kernel.operation.empty())
      return "an unstructured kernel needs an operation";
    if (!kernel.body.instructions.empty() || !kernel.body.inputs.empty())
      return "an unstructured kernel has no body";
    for (const Read &read : kernel.reads)
      if (!read.map.empty() || read.padding)
        return "an unstructured kernel has no access maps";
    for (const Write &write : kernel.writes)
      if (!write.map.empty() || write.combiner != Combiner::None || write.initial || write.initialScalar)
        return "an unstructured kernel has no access maps";
    if (kernel.kind == KernelKind::Composite && !kernel.region)
      return "a composite needs a region";
    if (!kernel.region)
      return "";
    const KernelGraph &region = *kernel.region;
    if (std::string wrong = Verifier(region).run(); !wrong.empty())
      return "region: " + wrong;
    if (region.inputs.size() != kernel.reads.size() || region.outputs.size() != kernel.writes.size())
      return "the region has " + std::to_string(region.inputs.size()) + " inputs and " +
             std::to_string(region.outputs.size()) + " outputs for " + std::to_string(kernel.reads.size()) +
             " reads and " + std::to_string(kernel.writes.size()) + " writes";
    // The slices of a scan have their value's type but another shape.
    bool composite = kernel.kind == KernelKind::Composite;
    auto differ = [&](const Value &outer, const Value &inner) {
      return outer.type != inner.type || (composite && outer.shape != inner.shape);
    };
    for (auto [read, input] : llvm::zip(kernel.reads, region.inputs))
      if (differ(graph.values[read.value], region.values[input]))
        return "the region takes " + shapeOf(region.values[input]) + ", the operand is " +
               shapeOf(graph.values[read.value]);
    for (auto [write, output] : llvm::zip(kernel.writes, region.outputs))
      if (differ(graph.values[write.value], region.values[output]))
        return "the region gives " + shapeOf(region.values[output]) + ", the result is " +
               shapeOf(graph.values[write.value]);
    return "";
  }

  const KernelGraph &graph;
  std::vector<bool> defined;
};
} // namespace

std::string KernelGraph::verify() const {
  return Verifier(*this).run();
}

static const llvm::fltSemantics *semanticsOf(ElementType type) {
  switch (type) {
  case ElementType::f64:
    return &llvm::APFloat::IEEEdouble();
  case ElementType::f32:
    return &llvm::APFloat::IEEEsingle();
  case ElementType::f16:
    return &llvm::APFloat::IEEEhalf();
  case ElementType::bf16:
    return &llvm::APFloat::BFloat();
  case ElementType::f8e4m3fn:
    return &llvm::APFloat::Float8E4M3FN();
  case ElementType::f8e4m3fnuz:
    return &llvm::APFloat::Float8E4M3FNUZ();
  case ElementType::f8e5m2:
    return &llvm::APFloat::Float8E5M2();
  case ElementType::f8e5m2fnuz:
    return &llvm::APFloat::Float8E5M2FNUZ();
  default:
    return nullptr;
  }
}

std::string describe(const Scalar &scalar) {
  if (scalar.type == ElementType::boolean)
    return scalar.bits & 1 ? "true" : "false";
  unsigned width = bitWidth(scalar.type);
  if (kindOf(scalar.type) == ElementKind::Unsigned)
    return std::to_string(scalar.bits);
  if (kindOf(scalar.type) == ElementKind::Signed)
    return std::to_string(llvm::SignExtend64(scalar.bits, width));
  if (const llvm::fltSemantics *semantics = semanticsOf(scalar.type)) {
    llvm::APFloat value(*semantics, llvm::APInt(width, scalar.bits));
    llvm::SmallString<32> text;
    value.toString(text);
    return text.str().str();
  }
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format_hex(scalar.bits, 2 + width / 4);
  return text;
}

namespace {
class Printer {
public:
  Printer(llvm::raw_ostream &os, const KernelGraph &graph, unsigned indent) : os(os), graph(graph), indent(indent) {}

  void run() {
    line() << "graph \"" << graph.name << "\"\n";
    indent += 2;
    for (auto [id, value] : llvm::enumerate(graph.values))
      if (value.role != ValueRole::Intermediate)
        printValue(static_cast<ValueId>(id), value);
    for (const Kernel &kernel : graph.kernels)
      printKernel(kernel);
    for (auto [position, id] : llvm::enumerate(graph.outputs)) {
      line() << "output v" << id;
      if (position < graph.outputNames.size())
        os << " \"" << graph.outputNames[position] << '"';
      os << '\n';
    }
  }

private:
  llvm::raw_ostream &line() { return os.indent(indent); }

  void printValue(ValueId id, const Value &value) {
    line() << nameOf(value.role) << " v" << id << ": " << describe(value.type, value.shape);
    if (!value.name.empty())
      os << " \"" << value.name << '"';
    if (value.origin)
      os << " file \"" << value.origin->path << "\" at " << value.origin->offset << ", " << value.origin->size
         << " bytes";
    if (value.role == ValueRole::Constant && !value.data.valid())
      os << " absent";
    if (value.splat()) {
      Scalar scalar{value.type, 0};
      std::memcpy(&scalar.bits, value.data.bytes().data(), byteWidth(value.type));
      os << " = " << describe(scalar);
    }
    os << '\n';
  }

  void printAccess(const DimensionAccess &access) {
    bool first = true;
    for (auto [loop, coefficient] : access.terms) {
      os << (coefficient < 0 ? "-" : first ? "" : "+");
      if (std::abs(coefficient) != 1)
        os << std::abs(coefficient) << '*';
      os << 'd' << loop;
      first = false;
    }
    if (first)
      os << access.offset;
    else if (access.offset != 0)
      os << (access.offset < 0 ? "" : "+") << access.offset;
  }

  void printMap(const AccessMap &map) {
    os << '[';
    llvm::interleave(map, os, [&](const DimensionAccess &access) { printAccess(access); }, ", ");
    os << ']';
  }

  void printRead(const Read &read, bool structured) {
    os << 'v' << read.value;
    if (structured)
      printMap(read.map);
    if (read.padding)
      os << " pad " << describe(*read.padding);
  }

  void printWrite(const Write &write, bool structured) {
    const Value &value = graph.values[write.value];
    os << 'v' << write.value;
    if (structured)
      printMap(write.map);
    os << ": " << describe(value.type, value.shape);
    if (!value.name.empty())
      os << " \"" << value.name << '"';
    if (write.combiner == Combiner::None)
      return;
    os << ' ' << nameOf(write.combiner) << " from ";
    if (write.initialScalar)
      os << describe(*write.initialScalar);
    if (write.initial)
      printRead(*write.initial, structured);
  }

  void printAttribute(const Attribute &attribute) {
    auto printOne = [&](const auto &item) {
      if constexpr (std::is_same_v<std::decay_t<decltype(item)>, std::string>)
        os << '"' << item << '"';
      else
        os << item;
    };
    std::visit(
        [&](const auto &value) {
          if constexpr (requires { typename std::decay_t<decltype(value)>::allocator_type; } &&
                        !std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
            os << '[';
            llvm::interleave(value, os, printOne, ", ");
            os << ']';
          } else {
            printOne(value);
          }
        },
        attribute);
  }

  // What each loop of a contraction is for.
  void printRoles(const Kernel &kernel) {
    std::optional<Contraction> contraction = inferContraction(graph, kernel);
    if (!contraction)
      return;
    os << " roles(lhs " << contraction->lhs << " rhs " << contraction->rhs;
    auto printLoops = [&](llvm::StringRef role, llvm::ArrayRef<unsigned> loops) {
      if (loops.empty())
        return;
      os << ' ' << role << " [";
      llvm::interleave(loops, os, [&](unsigned loop) { os << 'd' << loop; }, ", ");
      os << ']';
    };
    printLoops("batch", contraction->batch);
    printLoops("m", contraction->m);
    printLoops("n", contraction->n);
    printLoops("k", contraction->k);
    for (const Contraction::Window &window : contraction->windows)
      os << " window [d" << window.output << ", d" << window.tap << " stride " << window.stride << " dilation "
         << window.dilation << " pad " << window.padBefore << ' ' << window.padAfter << ']';
    if (contraction->lhsZeroPoint)
      os << " lhs_zero_point " << *contraction->lhsZeroPoint;
    if (contraction->rhsZeroPoint)
      os << " rhs_zero_point " << *contraction->rhsZeroPoint;
    if (contraction->lhsZeroConstant)
      os << " lhs_zero " << contraction->lhsZeroConstant;
    if (contraction->rhsZeroConstant)
      os << " rhs_zero " << contraction->rhsZeroConstant;
    os << ')';
  }

  void printKernel(const Kernel &kernel) {
    bool structured = kernel.structured();
    line() << nameOf(kernel.kind) << " \"" << kernel.operation << '"';
    if (structured) {
      os << " loops(";
      llvm::interleave(
          llvm::enumerate(kernel.loops), os,
          [&](const auto &loop) {
            os << 'd' << loop.index() << ':' << loop.value().extent << (loop.value().reduction ? " reduction" : "");
          },
          ", ");
      os << ')';
    }
    os << " reads(";
    llvm::interleave(kernel.reads, os, [&](const Read &read) { printRead(read, structured); }, ", ");
    os << ") writes(";
    llvm::interleave(kernel.writes, os, [&](const Write &write) { printWrite(write, structured); }, ", ");
    os << ')';
    if (!kernel.attributes.empty()) {
      os << " {";
      llvm::interleave(
          kernel.attributes, os,
          [&](const auto &attribute) {
            os << attribute.first << " = ";
            printAttribute(attribute.second);
          },
          ", ");
      os << '}';
    }
    if (kernel.kind == KernelKind::Contract)
      printRoles(kernel);
    if (structured) {
      os << " numeric(" << nameOf(kernel.numeric.storage) << ' ' << nameOf(kernel.numeric.multiply) << ' '
         << nameOf(kernel.numeric.accumulate) << (kernel.numeric.rounding == Rounding::Stochastic ? " stochastic" : "")
         << ')';
    }
    os << " flops " << static_cast<uint64_t>(kernel.flops) << " bytes " << static_cast<uint64_t>(kernel.bytes);
    if (!kernel.nodes.empty()) {
      os << " nodes(";
      llvm::interleave(
          kernel.nodes, os,
          [&](uint32_t node) { os << graph.nodes[node].operation << " \"" << graph.nodes[node].name << '"'; }, ", ");
      os << ')';
    }
    os << '\n';
    if (structured && !kernel.body.isIdentity()) {
      llvm::SmallVector<llvm::StringRef> lines;
      std::string body = kernel.body.print();
      llvm::StringRef(body).split(lines, '\n', -1, /*KeepEmpty=*/false);
      for (llvm::StringRef text : lines)
        line() << "  " << text << '\n';
    }
    if (kernel.region)
      Printer(os, *kernel.region, indent + 2).run();
  }

  llvm::raw_ostream &os;
  const KernelGraph &graph;
  unsigned indent;
};
} // namespace

std::string KernelGraph::print() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  Printer(os, *this, 0).run();
  return text;
}

static double elementsOf(const Value &value) {
  return static_cast<double>(elementCount(value.shape));
}

// Operations of an unstructured kernel without a region.
static double operationsOf(const KernelGraph &graph, const Kernel &kernel) {
  auto elements = [&](size_t read) {
    return read < kernel.reads.size() ? elementsOf(graph.values[kernel.reads[read].value]) : 0;
  };
  const std::string &operation = kernel.operation;
  if (operation == "arg_reduce" || operation == "cumulative")
    return elements(0);
  if (operation == "sort" || operation == "top_k") {
    // Comparisons of a merge sort along the axis, n log2 n.
    std::optional<int64_t> axis = integerAttribute(kernel, "axis");
    if (!axis || kernel.reads.empty())
      return 0;
    const Shape &shape = graph.values[kernel.reads[0].value].shape;
    auto dimension = static_cast<size_t>(*axis);
    double extent = dimension < shape.size() ? static_cast<double>(shape[dimension]) : 1;
    return extent > 1 ? elements(0) * std::ceil(std::log2(extent)) : 0;
  }
  if (operation == "scatter_elements" || operation == "scatter_nd") {
    auto reduction = kernel.attributes.find("reduction");
    bool combines = reduction != kernel.attributes.end() && std::get<std::string>(reduction->second) != "none";
    return combines ? elements(2) : 0;
  }
  return 0;
}

void countWork(const KernelGraph &graph, Kernel &kernel) {
  double points = 1;
  for (const Loop &loop : kernel.loops)
    points *= static_cast<double>(loop.extent);

  if (kernel.region) {
    double flops = 0;
    for (const Kernel &inner : kernel.region->kernels)
      flops += inner.flops;
    kernel.flops = flops * static_cast<double>(integerAttribute(kernel, "trip_count").value_or(1));
  } else if (kernel.kind == KernelKind::Contract) {
    kernel.flops = 2 * points; // zero points are correction terms of lower order, not work for each product
  } else if (kernel.structured()) {
    double operations = kernel.body.operationsPerElement();
    for (const Write &write : kernel.writes)
      operations += write.combiner == Combiner::None ? 0 : 1;
    kernel.flops = points * operations;
  } else {
    kernel.flops = operationsOf(graph, kernel);
  }

  // Where a precision was chosen that is narrower than the first operand's type, floats are stored in it.
  ElementType storage = kernel.numeric.storage;
  bool narrowed = !kernel.reads.empty() && kernel.structured() && isFloat(storage) &&
                  isFloat(graph.values[kernel.reads[0].value].type) &&
                  bitWidth(storage) < bitWidth(graph.values[kernel.reads[0].value].type);
  auto bytesOf = [&](const Value &value, double elements) {
    unsigned bits = bitWidth(value.type) == 1 ? 8 : bitWidth(value.type);
    if (narrowed && isFloat(value.type))
      bits = std::min(bits, bitWidth(storage));
    return elements * bits / 8;
  };
  double written = 0;
  for (const Write &write : kernel.writes)
    written = std::max(written, elementsOf(graph.values[write.value]));

  // An operand that several reads share is counted once, with the most elements that any of them touches.
  std::map<ValueId, double> touched;
  auto touch = [&](const Read &read) {
    double elements = elementsOf(graph.values[read.value]);
    if (kernel.structured()) {
      double indices = 1;
      for (unsigned loop = 0; loop < kernel.loops.size(); ++loop)
        if (llvm::any_of(read.map, [&](const DimensionAccess &access) { return coefficientOf(access, loop) != 0; }))
          indices *= static_cast<double>(kernel.loops[loop].extent);
      elements = std::min(elements, indices);
    }
    touched[read.value] = std::max(touched[read.value], elements);
  };
  for (auto [index, read] : llvm::enumerate(kernel.reads)) {
    touch(read);
    // Of a table, a gather touches only the rows that it picks.
    if (index == 0 && llvm::StringRef(kernel.operation).starts_with("gather") && !kernel.structured())
      touched[read.value] = std::min(touched[read.value], written);
  }
  for (const Write &write : kernel.writes)
    if (write.initial)
      touch(*write.initial);
  kernel.bytes = 0;
  for (auto [id, elements] : touched)
    kernel.bytes += bytesOf(graph.values[id], elements);
  for (const Write &write : kernel.writes)
    kernel.bytes += bytesOf(graph.values[write.value], elementsOf(graph.values[write.value]));
}

} // namespace quadrille::graph
