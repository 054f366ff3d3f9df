#include "target/Refusal.h"

namespace quadrille::target {

char Refusal::ID = 0;

llvm::Error unsupportedError(const llvm::Twine &message, Where where, const llvm::Twine &remedy) {
  return llvm::make_error<Refusal>(RefusalKind::Unsupported, message.str(), std::move(where), remedy.str());
}

llvm::Error doesNotFitError(const llvm::Twine &message, Where where, const llvm::Twine &remedy) {
  return llvm::make_error<Refusal>(RefusalKind::DoesNotFit, message.str(), std::move(where), remedy.str());
}

} // namespace quadrille::target
