#include "graph/onnx/DataType.h"

#include "base/Error.h"

#include "llvm/ADT/Twine.h"

namespace quadrille::graph {

namespace {
struct DataType {
  int32_t code;
  const char *name;
  std::optional<ElementType> type;
};
} // namespace

static constexpr DataType dataTypes[] = {
#define QUADRILLE_ROW(code, name, type) {code, name, type},
    QUADRILLE_ONNX_DATA_TYPES(QUADRILLE_ROW)
#undef QUADRILLE_ROW
};

std::string nameOfCode(int32_t code) {
  for (const DataType &entry : dataTypes)
    if (entry.code == code)
      return entry.name;
  return "type " + std::to_string(code);
}

llvm::Expected<ElementType> elementTypeOfCode(int32_t code) {
  for (const DataType &entry : dataTypes)
    if (entry.code == code) {
      if (entry.type)
        return *entry.type;
      return userError(llvm::Twine("element type ") + entry.name + " is not supported");
    }
  if (code == 0)
    return userError("no element type is given");
  return userError("unknown element type code " + llvm::Twine(code));
}

std::optional<int32_t> codeOfElementType(ElementType type) {
  for (const DataType &entry : dataTypes)
    if (entry.type == type)
      return entry.code;
  return std::nullopt;
}

} // namespace quadrille::graph
