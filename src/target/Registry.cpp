#include "target/Target.h"

namespace quadrille::target {

#define QUADRILLE_TARGET(name) const Target &name##Target();
#include "target/Targets.def"
#undef QUADRILLE_TARGET

std::vector<const Target *> all() {
  return {
#define QUADRILLE_TARGET(name) &name##Target(),
#include "target/Targets.def"
#undef QUADRILLE_TARGET
  };
}

const Target *find(llvm::StringRef name) {
  for (const Target *target : all())
    if (target->name() == name)
      return target;
  return nullptr;
}

} // namespace quadrille::target
