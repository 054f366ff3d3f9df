#include "driver/Reference.h"

#include "base/Error.h"
#include "driver/Progress.h"
#include "target/Compare.h"
#include "target/host/Evaluate.h"

namespace quadrille::driver {

llvm::Expected<Agreement> compareOutputs(const NamedTensors &outputs, const NamedTensors &expected) {
  Agreement agreement;
  for (const auto &[name, reference] : expected) {
    auto it = outputs.find(name);
    if (it == outputs.end() && name.empty() && outputs.size() == 1)
      it = outputs.begin();
    if (it == outputs.end())
      return userError("the program has no output '" + name + "' to compare");
    if (it->second.shape() != reference.shape() || it->second.type() != reference.type())
      return mismatchError("output '" + it->first + "' is " + describe(it->second.type(), it->second.shape()) +
                           ", expected " + describe(reference.type(), reference.shape()));
    target::Comparison comparison = target::compare(it->second, reference);
    if (agreement.worst.empty() || !(comparison.relativeL2 <= agreement.relativeL2)) {
      agreement.worst = it->first;
      agreement.relativeL2 = comparison.relativeL2;
    }
    agreement.maxAbs = comparison.maxAbs <= agreement.maxAbs ? agreement.maxAbs : comparison.maxAbs;
    if (!isFloat(reference.type()) && comparison.maxAbs != 0)
      agreement.integersEqual = false;
  }
  return agreement;
}

llvm::Expected<NamedTensors> evaluateReference(const graph::KernelGraph &graph, const NamedTensors &inputs,
                                               bool forHost) {
  std::vector<Tensor> ordered;
  for (graph::ValueId id : graph.inputs) {
    auto it = inputs.find(graph.values[id].name);
    if (it == inputs.end())
      return userError("the model's input '" + graph.values[id].name + "' is no input of the program");
    ordered.push_back(it->second);
  }
  Progress progress("evaluating the reference");
  auto values = forHost ? host::evaluatePlain(graph, ordered) : host::evaluate(graph, ordered);
  if (!values)
    return values.takeError();
  NamedTensors outputs;
  for (size_t i = 0; i < values->size(); ++i)
    outputs.emplace(graph.outputNames[i], (*values)[i]);
  return outputs;
}

} // namespace quadrille::driver
