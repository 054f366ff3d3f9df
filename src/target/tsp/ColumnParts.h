// Products cut along the columns of their weights.
#pragma once

#include "graph/KernelGraph.h"

#include <optional>

namespace quadrille::tsp {

// The dimension of a read that the loop alone indexes, from 0 on; nothing when it indexes more or in another way.
std::optional<size_t> dimensionAlong(const graph::AccessMap &map, unsigned loop);

// Which loop a product can be cut along: of the columns of constant weights.
std::optional<unsigned> columnLoop(const graph::KernelGraph &graph, const graph::Kernel &kernel);

// Indices [first, first + count) of a dimension of a constant.
graph::Value sliceOf(const graph::Value &value, size_t dimension, int64_t first, int64_t count);

// A product of which all that read it read columns that have none in common with others', as those of an attention's
// queries, keys and values made together, becomes a product for each: no elements have to change their lanes then.
// Columns that do not fill a vector, or begin with one, stay together.
void multiplyReadColumnsApart(graph::KernelGraph &graph, int64_t vectorLanes);

} // namespace quadrille::tsp
