#pragma once

#include "target/Target.h"
#include "target/host/Plan.h"

namespace quadrille::host {

// What is wrong with a program beyond what reading it refuses: kernels that run twice or never, values read before they
// are produced, buffers shared by values that are alive together, ports that differ from their variables.
std::vector<target::Finding> findingsOf(const program::Program &program, const HostPlan &plan);

} // namespace quadrille::host
