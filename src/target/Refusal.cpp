#include "target/Refusal.h"

namespace quadrille::target {

char Refusal::ID = 0;

llvm::Error unsupportedError(const llvm::Twine &message, Where where, const llvm::Twine &remedy) {
  return llvm::make_error<Refusal>(RefusalKind::Unsupported, message.str(), std::move(where), remedy.str());
}

llvm::Error doesNotFitError(const llvm::Twine &message, Where where, const llvm::Twine &remedy) {
  return llvm::make_error<Refusal>(RefusalKind::DoesNotFit, message.str(), std::move(where), remedy.str());
}

bool saysNoRoom(llvm::Error &error) {
  bool says = false;
  error = llvm::handleErrors(std::move(error), [&](std::unique_ptr<Refusal> refusal) -> llvm::Error {
    says = refusal->kind == RefusalKind::DoesNotFit;
    return llvm::Error(std::move(refusal));
  });
  return says;
}

} // namespace quadrille::target
