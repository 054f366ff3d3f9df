#include "base/Error.h"

#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>

namespace quadrille {

char Failure::ID = 0;

void Failure::log(llvm::raw_ostream &os) const {
  if (!where.file.empty())
    os << where.file << ": ";
  if (!where.node.empty())
    os << where.node << ": ";
  os << message;
  if (!remedy.empty())
    os << "; " << remedy;
}

static llvm::Error failure(Fault fault, const llvm::Twine &message, Where where, const llvm::Twine &remedy) {
  return llvm::make_error<Failure>(fault, message.str(), std::move(where), remedy.str());
}

llvm::Error userError(const llvm::Twine &message, Where where, const llvm::Twine &remedy) {
  return failure(Fault::User, message, std::move(where), remedy);
}

llvm::Error mismatchError(const llvm::Twine &message, Where where, const llvm::Twine &remedy) {
  return failure(Fault::Mismatch, message, std::move(where), remedy);
}

llvm::Error internalError(const llvm::Twine &message, Where where) {
  return failure(Fault::Internal, message, std::move(where), "this is a defect of Quadrille, please report it");
}

static llvm::Error fillIn(llvm::Error error, std::string Where::*field, llvm::StringRef value) {
  return llvm::handleErrors(std::move(error), [&](std::unique_ptr<Failure> failure) -> llvm::Error {
    if ((failure->where.*field).empty())
      failure->where.*field = value.str();
    return llvm::Error(std::move(failure));
  });
}

llvm::Error inFile(llvm::Error error, llvm::StringRef file) {
  return fillIn(std::move(error), &Where::file, file);
}

llvm::Error atNode(llvm::Error error, llvm::StringRef node) {
  return fillIn(std::move(error), &Where::node, node);
}

Reported report(llvm::Error error) {
  Reported result;
  llvm::raw_string_ostream os(result.message);
  auto separate = [&] {
    if (!result.message.empty())
      os << '\n';
  };
  llvm::handleAllErrors(
      std::move(error),
      [&](const Failure &failure) {
        separate();
        failure.log(os);
        result.exitCode = std::max(result.exitCode, static_cast<int>(failure.fault));
      },
      [&](const llvm::ErrorInfoBase &other) {
        separate();
        other.log(os);
        result.exitCode = std::max(result.exitCode, static_cast<int>(Fault::Internal));
      });
  return result;
}

} // namespace quadrille
