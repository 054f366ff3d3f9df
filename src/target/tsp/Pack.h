// How many neighbouring indices of each dimension of a value share a vector.
#pragma once

#include "target/tsp/Architecture.h"
#include "target/tsp/TapPlan.h"

namespace quadrille::tsp {

// For each value of a machine graph. The last dimension lies in the lanes; where it is short, as that of an image's
// colours, and one convolution alone reads the value, parts of the image's rows and columns lie beside it.
std::vector<Packing> choosePackings(const graph::KernelGraph &graph, const Architecture &machine);

// By dimension how much further than the element that an elementwise kernel writes one is that it reads, of a value of
// the result's shape; nothing when it reads in another order.
std::optional<std::vector<int64_t>> shiftsOf(const graph::KernelGraph &graph, const graph::Kernel &kernel,
                                             const graph::Read &read);

} // namespace quadrille::tsp
