#include "base/Error.h"
#include "driver/Compilation.h"
#include "graph/Model.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

namespace quadrille::driver {

namespace {

std::string portText(const graph::ModelSummary::Port &port) {
  return (nameOf(port.type) + "[" + llvm::join(port.shape, ",") + "]").str();
}

double totalFlops(const graph::KernelGraph &graph) {
  double flops = 0;
  for (const graph::Kernel &kernel : graph.kernels)
    flops += kernel.flops;
  return flops;
}

double totalBytes(const graph::KernelGraph &graph) {
  double bytes = 0;
  for (const graph::Kernel &kernel : graph.kernels)
    bytes += kernel.bytes;
  return bytes;
}

std::map<std::string, int64_t> kernelKinds(const graph::KernelGraph &graph) {
  std::map<std::string, int64_t> kinds;
  for (const graph::Kernel &kernel : graph.kernels)
    ++kinds[nameOf(kernel.kind).str()];
  return kinds;
}

std::string countsText(const std::map<std::string, int64_t> &counts) {
  std::vector<std::pair<int64_t, std::string>> sorted;
  sorted.reserve(counts.size());
  for (const auto &[name, count] : counts)
    sorted.emplace_back(-count, name);
  llvm::sort(sorted);
  std::string text;
  for (const auto &[count, name] : sorted)
    text += (text.empty() ? "" : ", ") + name + " " + std::to_string(-count);
  return text;
}

void writePorts(llvm::json::OStream &json, llvm::StringRef key, llvm::ArrayRef<graph::ModelSummary::Port> ports) {
  json.attributeArray(key, [&] {
    for (const graph::ModelSummary::Port &port : ports)
      json.object([&] {
        json.attribute("name", port.name);
        json.attribute("type", nameOf(port.type));
        json.attributeArray("shape", [&] {
          for (const std::string &extent : port.shape) {
            int64_t number;
            if (llvm::StringRef(extent).getAsInteger(10, number))
              json.value(extent);
            else
              json.value(number);
          }
        });
      });
  });
}

void writeCounts(llvm::json::OStream &json, llvm::StringRef key, const std::map<std::string, int64_t> &counts) {
  json.attributeObject(key, [&] {
    for (const auto &[name, count] : counts)
      json.attribute(name, count);
  });
}

void writeJson(const graph::ModelSummary &summary, const graph::KernelGraph *graph, const std::string &whyNot,
               bool listKernels) {
  llvm::json::OStream json(llvm::outs(), 2);
  json.object([&] {
    json.attribute("model", summary.path);
    json.attribute("producer", summary.producer);
    json.attribute("ir_version", summary.irVersion);
    json.attribute("opset", summary.opset);
    writePorts(json, "inputs", summary.inputs);
    writePorts(json, "outputs", summary.outputs);
    writeCounts(json, "operators", summary.operators);
    json.attribute("parameters", summary.parameters);
    json.attribute("parameter_bytes", static_cast<int64_t>(summary.parameterBytes));
    json.attribute("absent_weights", static_cast<int64_t>(summary.absentWeights.size()));
    json.attributeArray("unsupported", [&] {
      for (const graph::UnsupportedNode &node : summary.unsupported)
        json.object([&] {
          json.attribute("node", node.node);
          json.attribute("operator", node.operation);
          json.attribute("reason", node.reason);
        });
    });
    if (!graph) {
      json.attribute("kernels", nullptr);
      json.attribute("kernels_reason", whyNot);
      return;
    }
    writeCounts(json, "kernels", kernelKinds(*graph));
    json.attribute("flops", totalFlops(*graph));
    json.attribute("bytes", totalBytes(*graph));
    if (listKernels)
      json.attributeArray("kernel_list", [&] {
        for (const graph::Kernel &kernel : graph->kernels)
          json.object([&] {
            json.attribute("kind", nameOf(kernel.kind));
            json.attribute("operation", kernel.operation);
            json.attributeArray("nodes", [&] {
              for (uint32_t node : kernel.nodes)
                json.value(graph->nodes[node].name);
            });
            json.attribute("flops", kernel.flops);
            json.attribute("bytes", kernel.bytes);
            json.attributeArray("writes", [&] {
              for (const graph::Write &write : kernel.writes)
                json.value(describe(graph->values[write.value].type, graph->values[write.value].shape));
            });
          });
      });
  });
  llvm::outs() << '\n';
}

void printText(const graph::ModelSummary &summary, const graph::KernelGraph *graph, const std::string &whyNot,
               bool listKernels) {
  llvm::raw_ostream &os = llvm::outs();
  os << summary.path << ": ONNX IR " << summary.irVersion << ", opset " << summary.opset
     << (summary.producer.empty() ? "" : ", written by " + summary.producer) << '\n';
  for (const auto &port : summary.inputs)
    os << "  input      " << port.name << ' ' << portText(port) << '\n';
  for (const auto &port : summary.outputs)
    os << "  output     " << port.name << ' ' << portText(port) << '\n';
  os << "  operators  " << countsText(summary.operators) << '\n';
  os << "  parameters " << summary.parameters << " (" << llvm::format("%.2f", double(summary.parameterBytes) / 1e6)
     << " MB)\n";
  if (!summary.absentWeights.empty())
    os << "  absent     the data of " << summary.absentWeights.size()
       << " weights is missing (first: " << summary.absentWeights.front()
       << "); planning and estimating work, execution does not\n";
  for (const graph::UnsupportedNode &node : summary.unsupported)
    os << "  unsupported " << node.node << " (" << node.operation << "): " << node.reason << '\n';
  if (!graph) {
    os << "  kernels    not available: " << whyNot << '\n';
    return;
  }
  os << "  kernels    " << graph->kernels.size() << ": " << countsText(kernelKinds(*graph)) << '\n';
  os << "  work       "
     << llvm::format("%.3f GFLOP, %.2f MB read and written by kernels\n", totalFlops(*graph) / 1e9,
                     totalBytes(*graph) / 1e6);
  if (!listKernels)
    return;
  os << llvm::formatv("\n  {0,-10} {1,-22} {2,12} {3,12}  {4,-24} {5}\n", "kind", "operation", "MFLOP", "kB", "result",
                      "nodes");
  for (const graph::Kernel &kernel : graph->kernels) {
    const graph::Value *result = kernel.writes.empty() ? nullptr : &graph->values[kernel.writes.front().value];
    std::string nodes =
        llvm::join(llvm::map_range(kernel.nodes, [&](uint32_t node) { return graph->nodes[node].name; }), ", ");
    os << llvm::formatv("  {0,-10} {1,-22} {2,12:F3} {3,12:F1}  {4,-24} {5}\n", nameOf(kernel.kind), kernel.operation,
                        kernel.flops / 1e6, kernel.bytes / 1e3, result ? describe(result->type, result->shape) : "",
                        nodes);
  }
}

} // namespace

llvm::Error inspectCommand(const InspectArguments &arguments) {
  auto summary = graph::summarizeModel(arguments.model.path);
  if (!summary)
    return summary.takeError();
  auto options = importOptions(arguments.model);
  if (!options)
    return options.takeError();
  std::optional<graph::KernelGraph> graph;
  std::string whyNot;
  if (auto loaded = graph::loadModel(arguments.model.path, *options))
    graph = std::move(*loaded);
  else
    // A model with open dimensions or operators that we lack can still be looked at; a defect of ours is not hidden.
    if (Reported reported = report(loaded.takeError()); reported.exitCode == static_cast<int>(Fault::Internal))
      return internalError(reported.message);
    else
      whyNot = reported.message;
  const graph::KernelGraph *found = graph ? &*graph : nullptr;
  if (arguments.json)
    writeJson(*summary, found, whyNot, arguments.kernels);
  else
    printText(*summary, found, whyNot, arguments.kernels);
  return llvm::Error::success();
}

} // namespace quadrille::driver
