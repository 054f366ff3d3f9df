#include "target/ipu/Codelets.h"

#include "llvm/ADT/STLExtras.h"

#include <cassert>

namespace quadrille::ipu {

namespace {

// No number that counts elements of one tile is larger, so that no product of two leaves 64 bits.
constexpr int64_t mostElements = int64_t(1) << 31;
constexpr int64_t highestAddress = int64_t(1) << 32;

Parameter count(llvm::StringRef name, ParameterKind kind, int64_t minimum, int64_t maximum) {
  return {name, kind, minimum, maximum, {}};
}
Parameter word(llvm::StringRef name, std::vector<llvm::StringRef> words) {
  auto highest = static_cast<int64_t>(words.size()) - 1;
  return {name, ParameterKind::Word, 0, highest, std::move(words)};
}

Parameter type(llvm::StringRef name) {
  std::vector<llvm::StringRef> names;
  for (ElementType type : tileTypes())
    names.push_back(nameOf(type));
  Parameter parameter = word(name, std::move(names));
  parameter.kind = ParameterKind::Type;
  return parameter;
}

} // namespace

llvm::ArrayRef<ElementType> tileTypes() {
  static const ElementType types[] = {ElementType::f32, ElementType::f16, ElementType::i32,
                                      ElementType::u32, ElementType::i16, ElementType::u16,
                                      ElementType::i8,  ElementType::u8,  ElementType::boolean};
  return types;
}

int64_t numberOf(ElementType type) {
  return llvm::find(tileTypes(), type) - tileTypes().begin();
}

const std::vector<Form> &forms() {
  static const std::vector<Form> all = {
#define COUNT(name, minimum, maximum) count(name, ParameterKind::Count, minimum, maximum)
#define COUNTS(name, minimum, maximum) count(name, ParameterKind::Counts, minimum, maximum)
#define ADDRESS(name) count(name, ParameterKind::Address, 0, highestAddress)
#define ADDRESSES(name) count(name, ParameterKind::Addresses, 0, highestAddress)
#define WORD(name, ...) word(name, {__VA_ARGS__})
#define TYPE(name) type(name)
#define EXPRESSION(name) count(name, ParameterKind::Expression, 0, mostElements)
#define PARAMETERS(...) {__VA_ARGS__}
#define CODELET(number, enumerator, name, executor, purpose, ...)                                                      \
  Form{Codelet::enumerator, name, Executor::executor, Purpose::purpose, __VA_ARGS__},
#include "target/ipu/Codelets.def"
#undef CODELET
  };
  return all;
}

const Form *formOf(uint16_t codelet) {
  auto found = llvm::find_if(forms(), [&](const Form &form) { return static_cast<uint16_t>(form.codelet) == codelet; });
  return found == forms().end() ? nullptr : &*found;
}

const Form *formNamed(llvm::StringRef name) {
  auto found = llvm::find_if(forms(), [&](const Form &form) { return form.name == name; });
  return found == forms().end() ? nullptr : &*found;
}

size_t Form::parameter(llvm::StringRef name) const {
  auto found = llvm::find_if(parameters, [&](const Parameter &each) { return each.name == name; });
  assert(found != parameters.end() && "the codelet has no such parameter");
  return static_cast<size_t>(found - parameters.begin());
}

} // namespace quadrille::ipu
