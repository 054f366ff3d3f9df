#include "target/ipu/Vertices.h"

#include "target/ipu/CycleModel.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <cassert>

namespace quadrille::ipu {

int64_t Access::first() const {
  int64_t from = address;
  for (auto [extent, stride] : llvm::zip(extents, strides))
    from += std::min<int64_t>(0, (extent - 1) * stride);
  return from;
}

int64_t Access::end() const {
  int64_t to = address;
  for (auto [extent, stride] : llvm::zip(extents, strides))
    to += std::max<int64_t>(0, (extent - 1) * stride);
  return to + bytes;
}

void Access::forEachRun(llvm::function_ref<void(int64_t address)> run) const {
  std::vector<int64_t> index(extents.size());
  for (int64_t at = address;;) {
    run(at);
    size_t d = extents.size();
    while (d > 0) {
      --d;
      at += strides[d];
      if (++index[d] < extents[d])
        break;
      at -= extents[d] * strides[d];
      index[d] = 0;
      if (d == 0)
        return;
    }
    if (extents.empty())
      return;
  }
}

bool meet(const Access &a, const Access &b) {
  if (a.first() >= b.end() || b.first() >= a.end())
    return false;
  auto isDense = [](const Access &access) {
    int64_t runs = 1;
    for (int64_t extent : access.extents)
      runs *= extent;
    return access.end() - access.first() <= runs * access.bytes;
  };
  if (isDense(a) && isDense(b))
    return true;
  if (isDense(a) || isDense(b)) {
    const Access &sparse = isDense(a) ? b : a, &other = isDense(a) ? a : b;
    bool common = false;
    sparse.forEachRun([&](int64_t at) { common |= at < other.end() && other.first() < at + sparse.bytes; });
    return common;
  }
  // Which bytes of what the first one spans it has.
  std::vector<bool> has(static_cast<size_t>(a.end() - a.first()));
  a.forEachRun([&](int64_t at) { std::fill_n(has.begin() + (at - a.first()), a.bytes, true); });
  bool common = false;
  b.forEachRun([&](int64_t at) {
    for (int64_t byte = std::max(at, a.first()); !common && byte < std::min(at + b.bytes, a.end()); ++byte)
      common = has[static_cast<size_t>(byte - a.first())];
  });
  return common;
}

llvm::ArrayRef<int64_t> valuesOf(const Vertex &vertex, llvm::StringRef parameter) {
  return vertex.values[formOf(vertex.codelet)->parameter(parameter)];
}

int64_t valueOf(const Vertex &vertex, llvm::StringRef parameter) {
  return valuesOf(vertex, parameter).front();
}

ElementType typeOf(const Vertex &vertex, llvm::StringRef parameter) {
  return tileTypes()[static_cast<size_t>(valueOf(vertex, parameter))];
}

std::optional<Combine> updateOf(const Vertex &vertex) {
  int64_t word = valueOf(vertex, "combine");
  return word > static_cast<int64_t>(Combine::Xor) ? std::nullopt : std::optional(static_cast<Combine>(word));
}

namespace {

std::string join(const std::string &what, int64_t is, int64_t wanted) {
  return what + " has " + std::to_string(is) + " numbers, not " + std::to_string(wanted);
}

// The loops' number of points, or nothing when it is beyond what a tile could hold.
std::optional<int64_t> pointsOf(llvm::ArrayRef<int64_t> extents) {
  constexpr int64_t most = int64_t(1) << 31;
  int64_t points = 1;
  for (int64_t extent : extents) {
    if (extent > most / points)
      return std::nullopt;
    points *= extent;
  }
  return points;
}

// Of products and pools: arrays have no more elements than the products of all their sizes, which no tile comes near.
std::string sizesProblem(const Vertex &vertex) {
  switch (vertex.kind()) {
  case Codelet::ConvPartial1x1Out:
  case Codelet::ConvPartialnx1:
  case Codelet::ConvPartialVerticalMac:
  case Codelet::ConvPartialHorizontalMac:
  case Codelet::ConvPartial1x4SLIC:
  case Codelet::OuterProduct:
  case Codelet::MaxPool:
  case Codelet::SumPool:
    break;
  default:
    return "";
  }
  const Form &form = *formOf(vertex.codelet);
  std::vector<int64_t> sizes;
  for (auto [parameter, values] : llvm::zip(form.parameters, vertex.values))
    if (parameter.kind == ParameterKind::Count && parameter.minimum == 1)
      llvm::append_range(sizes, values);
  bool fits = pointsOf(sizes).has_value();
  for (auto [parameter, values] : llvm::zip(form.parameters, vertex.values)) {
    if (parameter.kind != ParameterKind::Counts || parameter.minimum != 1)
      continue;
    std::vector<int64_t> all = sizes;
    llvm::append_range(all, values);
    fits &= pointsOf(all).has_value();
  }
  return fits ? "" : "the arrays have too many elements";
}

std::string lengthProblem(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions) {
  auto count = [&](llvm::StringRef name) { return static_cast<int64_t>(valuesOf(vertex, name).size()); };
  auto wants = [&](llvm::StringRef name, int64_t wanted) {
    return count(name) == wanted ? std::string() : join(name.str(), count(name), wanted);
  };
  auto first = [](std::initializer_list<std::string> problems) {
    for (const std::string &problem : problems)
      if (!problem.empty())
        return problem;
    return std::string();
  };
  auto bounded = [&](llvm::StringRef name) {
    return pointsOf(valuesOf(vertex, name)) ? std::string() : "the loops have too many points";
  };
  auto productProblem = [&](llvm::StringRef name) {
    return isFloat(typeOf(vertex, name)) ? std::string() : name.str() + ": products are of floats";
  };
  // Of products whose sums are held in a type of their own.
  auto sumsProblem = [&] {
    bool narrower = byteWidth(typeOf(vertex, "partials")) < byteWidth(typeOf(vertex, "type"));
    return first({productProblem("type"), productProblem("partials"),
                  narrower ? "partials: narrower than what is multiplied" : ""});
  };
  auto halvesProblem = [&] {
    return typeOf(vertex, "type") == ElementType::f16 ? std::string() : "type: halves are multiplied";
  };
  auto fieldProblem = [&] {
    int64_t rank = count("out_field");
    return first({wants("in_field", rank), wants("kernel", rank), wants("stride", rank), wants("dilation", rank),
                  wants("padding", rank), bounded("out_field"), bounded("in_field"), bounded("kernel")});
  };
  if (std::string problem = sizesProblem(vertex); !problem.empty())
    return problem;
  switch (vertex.kind()) {
  case Codelet::Map: {
    auto number = static_cast<size_t>(valueOf(vertex, "expression"));
    if (number >= expressions.size())
      return "there is no expression " + std::to_string(number);
    const BlockExpression &expression = expressions[number];
    auto inputs = static_cast<int64_t>(expression.inputs.size());
    auto outputs = static_cast<int64_t>(expression.results.size());
    int64_t loops = count("extents");
    return first({wants("in", inputs), wants("in_strides", inputs * loops), wants("out", outputs),
                  wants("out_strides", outputs * loops), bounded("extents")});
  }
  case Codelet::Reduce: {
    std::vector<int64_t> all(valuesOf(vertex, "extents"));
    llvm::append_range(all, valuesOf(vertex, "reduced"));
    return first({wants("in_strides", static_cast<int64_t>(all.size())), wants("out_strides", count("extents")),
                  pointsOf(all) ? "" : "the loops have too many points"});
  }
  case Codelet::Copy:
    return first({wants("in_strides", count("extents")), wants("out_strides", count("extents")), bounded("extents")});
  case Codelet::Uniform:
  case Codelet::Normal:
    return isFloat(typeOf(vertex, "type")) ? "" : "type: random numbers are floats";
  case Codelet::MaxPool:
  case Codelet::SumPool: {
    return first({isFloat(typeOf(vertex, "type")) ? "" : "type: floats are pooled",
                  count("out_field") == 0 ? "out_field: a field has a dimension" : "", fieldProblem()});
  }
  case Codelet::ConvPartial1x4SLIC: {
    int64_t rank = count("out_field");
    std::string field = fieldProblem();
    if (rank == 0 || !field.empty())
      return rank == 0 ? "out_field: a field has a dimension" : field;
    int64_t row = valuesOf(vertex, "kernel").back(), window = valueOf(vertex, "window");
    return first({halvesProblem(), productProblem("partials"),
                  row % window != 0 ? "kernel: its rows are not whole windows" : "",
                  valuesOf(vertex, "dilation").back() != 1 ? "dilation: rows are not dilated" : ""});
  }
  case Codelet::ConvPartialVerticalMac:
    return first({count("out_field") == 0 ? "out_field: a field has a dimension" : "", halvesProblem(),
                  productProblem("partials"), fieldProblem()});
  case Codelet::ConvPartialnx1:
    return first({sumsProblem(), fieldProblem()});
  case Codelet::MultiSlice: {
    auto number = [&](llvm::StringRef name) { return valueOf(vertex, name); };
    return first(
        {pointsOf({number("bytes"), number("elements"), number("rows")}) ? "" : "the rows have too many elements",
         pointsOf({number("bytes"), number("elements"), number("count")}) ? "" : "too many rows are picked"});
  }
  case Codelet::MultiUpdate: {
    auto number = [&](llvm::StringRef name) { return valueOf(vertex, name); };
    ElementType type = typeOf(vertex, "type");
    auto width = static_cast<int64_t>(byteWidth(type));
    std::optional<Combine> combine = updateOf(vertex);
    return first({combine && !combines(*combine, type) ? "combine: elements of the type cannot be combined so" : "",
                  pointsOf({width, number("elements"), number("rows")}) ? "" : "the rows have too many elements",
                  pointsOf({width, number("elements"), number("count")}) ? "" : "there are too many updates"});
  }
  case Codelet::DotProduct:
    return productProblem("type");
  case Codelet::ConvPartialHorizontalMac:
  case Codelet::ConvPartial1x1Out:
    return sumsProblem();
  case Codelet::OuterProduct:
    return productProblem("type");
  case Codelet::Fill:
    return "";
  }
  return "";
}

} // namespace

std::string parameterProblem(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions) {
  const Form *form = formOf(vertex.codelet);
  if (!form)
    return "there is no codelet " + std::to_string(vertex.codelet);
  if (vertex.values.size() != form->parameters.size())
    return "the codelet has " + std::to_string(form->parameters.size()) + " parameters, not " +
           std::to_string(vertex.values.size());
  for (auto [parameter, values] : llvm::zip(form->parameters, vertex.values)) {
    if (!parameter.isList() && values.size() != 1)
      return join(parameter.name.str(), static_cast<int64_t>(values.size()), 1);
    for (int64_t value : values)
      if (value < parameter.minimum || value > parameter.maximum)
        return parameter.name.str() + ": " + std::to_string(value) + " is not in " + std::to_string(parameter.minimum) +
               ".." + std::to_string(parameter.maximum);
  }
  return lengthProblem(vertex, expressions);
}

namespace {

Access dense(bool writes, int64_t address, int64_t bytes, int64_t alignment) {
  return {writes, address, bytes, alignment, {}, {}};
}

Access strided(bool writes, int64_t address, int64_t elementBytes, llvm::ArrayRef<int64_t> extents,
               llvm::ArrayRef<int64_t> strides, int64_t unit) {
  Access access{writes, address, elementBytes, elementBytes, {}, {}};
  for (auto [extent, stride] : llvm::zip(extents, strides)) {
    if (extent == 1 || (stride == 0 && !writes))
      continue; // the same bytes again
    access.extents.push_back(extent);
    access.strides.push_back(stride * unit);
  }
  // Inner loops without gaps are one run.
  while (!access.extents.empty() && access.strides.back() == access.bytes) {
    access.bytes *= access.extents.back();
    access.extents.pop_back();
    access.strides.pop_back();
  }
  return access;
}

} // namespace

std::vector<Access> accessesOf(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions) {
  std::vector<Access> result;
  auto number = [&](llvm::StringRef name) { return valueOf(vertex, name); };
  switch (vertex.kind()) {
  case Codelet::Map: {
    const BlockExpression &expression = expressions[static_cast<size_t>(number("expression"))];
    llvm::ArrayRef<int64_t> extents = valuesOf(vertex, "extents");
    auto add = [&](bool writes, llvm::StringRef addresses, llvm::StringRef strides, size_t i, ElementType type) {
      auto width = static_cast<int64_t>(byteWidth(type));
      result.push_back(strided(writes, valuesOf(vertex, addresses)[i], width, extents,
                               valuesOf(vertex, strides).slice(i * extents.size(), extents.size()), width));
    };
    for (auto [i, type] : llvm::enumerate(expression.inputs))
      add(false, "in", "in_strides", i, type);
    for (auto [i, value] : llvm::enumerate(expression.results))
      add(true, "out", "out_strides", i, expression.instructions[value].type);
    return result;
  }
  case Codelet::Reduce: {
    std::vector<int64_t> all(valuesOf(vertex, "extents"));
    llvm::append_range(all, valuesOf(vertex, "reduced"));
    auto in = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    auto out = static_cast<int64_t>(byteWidth(typeOf(vertex, "out_type")));
    result.push_back(strided(false, number("in"), in, all, valuesOf(vertex, "in_strides"), in));
    if (number("update"))
      result.push_back(
          strided(false, number("out"), out, valuesOf(vertex, "extents"), valuesOf(vertex, "out_strides"), out));
    result.push_back(
        strided(true, number("out"), out, valuesOf(vertex, "extents"), valuesOf(vertex, "out_strides"), out));
    return result;
  }
  case Codelet::Copy:
    result.push_back(
        strided(false, number("in"), number("bytes"), valuesOf(vertex, "extents"), valuesOf(vertex, "in_strides"), 1));
    result.push_back(
        strided(true, number("out"), number("bytes"), valuesOf(vertex, "extents"), valuesOf(vertex, "out_strides"), 1));
    return result;
  case Codelet::Fill:
    result.push_back(dense(true, number("out"), number("bytes") * number("count"), number("bytes")));
    return result;
  case Codelet::DotProduct: {
    auto width = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    auto sum = static_cast<int64_t>(byteWidth(ElementType::f32));
    for (const char *operand : {"a", "b"})
      result.push_back(dense(false, number(operand), number("count") * width, width));
    result.push_back(dense(true, number("out"), sum, sum));
    return result;
  }
  case Codelet::MultiSlice: {
    int64_t row = number("bytes") * number("elements");
    constexpr auto indexBytes = static_cast<int64_t>(byteWidth(ElementType::i32));
    result.push_back(dense(false, number("in"), number("rows") * row, number("bytes")));
    result.push_back(dense(false, number("indices"), number("count") * indexBytes, indexBytes));
    result.push_back(dense(true, number("out"), number("count") * row, number("bytes")));
    return result;
  }
  case Codelet::MultiUpdate: {
    auto width = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    int64_t row = width * number("elements");
    constexpr auto indexBytes = static_cast<int64_t>(byteWidth(ElementType::i32));
    result.push_back(dense(false, number("in"), number("count") * row, width));
    result.push_back(dense(false, number("indices"), number("count") * indexBytes, indexBytes));
    result.push_back(dense(false, number("out"), number("rows") * row, width));
    result.push_back(dense(true, number("out"), number("rows") * row, width));
    return result;
  }
  case Codelet::ConvPartial1x1Out:
  case Codelet::ConvPartialHorizontalMac:
  case Codelet::ConvPartialnx1: {
    bool oneByOne = vertex.kind() != Codelet::ConvPartialnx1;
    auto points = [&](llvm::StringRef name) { return *pointsOf(valuesOf(vertex, name)); };
    int64_t outputs = oneByOne ? number("positions") : number("batch") * points("out_field");
    int64_t inputs = oneByOne ? number("positions") : number("batch") * points("in_field");
    int64_t kernel = oneByOne ? 1 : points("kernel");
    auto width = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    auto partials = static_cast<int64_t>(byteWidth(typeOf(vertex, "partials")));
    int64_t groups = number("groups"), in = number("in_blocks") * number("in_channels");
    int64_t out = number("out_blocks") * number("out_channels");
    result.push_back(dense(false, number("in"), groups * in * inputs * width, ofLoads));
    result.push_back(dense(false, number("weights"), groups * in * out * kernel * width, ofLoads));
    if (!number("zero"))
      result.push_back(dense(false, number("out"), groups * out * outputs * partials, ofLoads));
    result.push_back(dense(true, number("out"), groups * out * outputs * partials, ofLoads));
    return result;
  }
  case Codelet::Uniform:
  case Codelet::Normal:
    result.push_back(
        dense(true, number("out"), number("count") * static_cast<int64_t>(byteWidth(typeOf(vertex, "type"))), ofLoads));
    return result;
  case Codelet::MaxPool:
  case Codelet::SumPool: {
    auto width = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    int64_t images = number("batch") * number("channels") * width;
    result.push_back(dense(false, number("in"), images * *pointsOf(valuesOf(vertex, "in_field")), ofLoads));
    result.push_back(dense(true, number("out"), images * *pointsOf(valuesOf(vertex, "out_field")), ofLoads));
    return result;
  }
  case Codelet::ConvPartial1x4SLIC:
  case Codelet::ConvPartialVerticalMac: {
    auto points = [&](llvm::StringRef name) { return *pointsOf(valuesOf(vertex, name)); };
    auto width = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    auto partials = static_cast<int64_t>(byteWidth(typeOf(vertex, "partials")));
    bool slim = vertex.kind() == Codelet::ConvPartial1x4SLIC;
    int64_t channels = number("groups") * (slim ? number("together") : 1) * number("channels");
    int64_t images = number("batch") * channels, weights = channels * (slim ? number("channels") : 1);
    result.push_back(dense(false, number("in"), images * points("in_field") * width, ofLoads));
    result.push_back(dense(false, number("weights"), weights * points("kernel") * width, ofLoads));
    result.push_back(dense(true, number("out"), images * points("out_field") * partials, ofLoads));
    return result;
  }
  case Codelet::OuterProduct: {
    auto width = static_cast<int64_t>(byteWidth(typeOf(vertex, "type")));
    int64_t channels = number("groups") * number("channels");
    result.push_back(dense(false, number("in"), number("positions") * width, width));
    result.push_back(dense(false, number("weights"), channels * width, ofLoads));
    result.push_back(dense(true, number("out"), channels * number("positions") * width, ofLoads));
    return result;
  }
  }
  return result;
}

bool sumsArray(const Vertex &vertex) {
  llvm::ArrayRef<int64_t> extents = valuesOf(vertex, "extents"), in = valuesOf(vertex, "in_strides");
  const Shape strides = rowMajorStrides(extents);
  const llvm::ArrayRef<int64_t> rows(strides);
  return valueOf(vertex, "combine") == 0 && valueOf(vertex, "update") == 0 && valuesOf(vertex, "reduced").size() == 1 &&
         in.drop_back() == rows && in.back() == *pointsOf(extents) && valuesOf(vertex, "out_strides") == rows;
}

std::string wideLoadsProblem(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions,
                             const Architecture &machine) {
  bool reduces = vertex.kind() == Codelet::Reduce;
  if (reduces && !sumsArray(vertex))
    return "only sums of parts that lie one after the other have wide ones";
  if (vertex.kind() == Codelet::ConvPartialnx1 &&
      !CycleModel::mayLoadWide(machine.unitWeights(typeOf(vertex, "type"), typeOf(vertex, "partials")) /
                               valueOf(vertex, "in_channels")))
    return "weights of so many rows of a kernel in a unit have no wide ones";
  const Access access = accessesOf(vertex, expressions)[reduces ? 0 : 1];
  if (access.first() < machine.interleavedBegin() || access.end() > machine.memoryBytes)
    return "what is read so must lie in the interleaved memory, which begins at " +
           std::to_string(machine.interleavedBegin());
  if (access.address % machine.wideLoadBytes != 0)
    return "what is read so must be aligned to " + std::to_string(machine.wideLoadBytes) + " bytes";
  return "";
}

VertexWork workOf(const Vertex &vertex, llvm::ArrayRef<BlockExpression> expressions) {
  auto number = [&](llvm::StringRef name) { return static_cast<double>(valueOf(vertex, name)); };
  auto points = [&](llvm::StringRef name) { return static_cast<double>(*pointsOf(valuesOf(vertex, name))); };
  switch (vertex.kind()) {
  case Codelet::Map:
    return {0,
            points("extents") * expressions[static_cast<size_t>(valueOf(vertex, "expression"))].operationsPerElement()};
  case Codelet::Reduce:
    return {0, points("extents") * points("reduced")};
  case Codelet::DotProduct:
    return {0, 2 * number("count")};
  case Codelet::Copy:
  case Codelet::Fill:
  case Codelet::MultiSlice:
    return {};
  case Codelet::MultiUpdate: // whichever rows the indices pick
    return {0, updateOf(vertex) ? number("count") * number("elements") : 0};
  case Codelet::ConvPartialHorizontalMac: // on the elementwise units
    return {0, 2 * number("groups") * number("in_blocks") * number("in_channels") * number("out_blocks") *
                   number("out_channels") * number("positions")};
  case Codelet::OuterProduct:
    return {0, number("groups") * number("channels") * number("positions")};
  case Codelet::ConvPartial1x1Out:
  case Codelet::ConvPartialnx1: {
    bool one = vertex.kind() == Codelet::ConvPartial1x1Out;
    double products = number("groups") * number("in_blocks") * number("in_channels") * number("out_blocks") *
                      number("out_channels") *
                      (one ? number("positions") : number("batch") * points("out_field") * points("kernel"));
    return {products, 2 * products};
  }
  case Codelet::Uniform: // the scale and the offset; random bits are not arithmetic
  case Codelet::Normal:
    return {0, 2 * number("count")};
  case Codelet::MaxPool:
  case Codelet::SumPool:
    return {0, number("channels") * number("batch") * points("out_field") * points("kernel")};
  case Codelet::ConvPartial1x4SLIC: {
    double products = number("groups") * number("together") * number("channels") * number("channels") *
                      number("batch") * points("out_field") * points("kernel");
    return {products, 2 * products};
  }
  case Codelet::ConvPartialVerticalMac: // on the elementwise units
    return {0, 2 * number("groups") * number("channels") * number("batch") * points("out_field") * points("kernel")};
  }
  return {};
}

} // namespace quadrille::ipu
