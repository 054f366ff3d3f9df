// Host programs from strangers: a FlatBuffer payload (it carries the schema's identifier) in a program with fitting
// variables, or a whole program's text. What the checker passes executes, where it is small enough to wait for, and
// survives printing and assembling.
#include "base/Error.h"
#include "target/Target.h"
#include "target/host/Payload.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace quadrille::target {
const Target &hostTarget();
} // namespace quadrille::target

using namespace quadrille;

static constexpr double mostElements = 1 << 20; // of all values, executed: more would only be slow
static constexpr double mostPoints = 1 << 22;   // of all loop nests

static void fail(const std::string &what) {
  std::fprintf(stderr, "host_program_fuzz: %s\n", what.c_str());
  std::abort();
}

static const target::Target &theHost() {
  return target::hostTarget();
}

// Elements of all values and points of all loops, regions as often as they run.
static void count(const graph::KernelGraph &graph, double times, double &elements, double &points) {
  for (const graph::Value &value : graph.values)
    elements += times * static_cast<double>(elementCount(value.shape));
  for (const graph::Kernel &kernel : graph.kernels) {
    double nest = times * static_cast<double>(1 + kernel.body.instructions.size());
    for (const graph::Loop &loop : kernel.loops)
      nest *= static_cast<double>(loop.extent);
    points += nest + times;
    auto trip = kernel.attributes.find("trip_count");
    double trips = 1;
    if (trip != kernel.attributes.end())
      if (auto *number = std::get_if<int64_t>(&trip->second))
        trips = static_cast<double>(std::max<int64_t>(*number, 1));
    if (kernel.region)
      count(*kernel.region, times * trips, elements, points);
  }
}

static bool isSmall(const program::Program &program) {
  auto contents = host::payloadOf(program);
  if (!contents)
    fail("a program that was checked cannot be read");
  auto plan = host::planOf(program, **contents);
  if (!plan)
    fail("a program that was checked has no plan: " + report(plan.takeError()).message);
  double elements = 0, points = 0;
  count(plan->graph, 1, elements, points);
  return elements <= mostElements && points <= mostPoints;
}

static void execute(const program::Program &program) {
  target::NamedTensors inputs;
  for (const program::Variable &variable : program.variables) {
    if (variable.role != program::VariableRole::Input)
      continue;
    Tensor tensor = Tensor::zeros(variable.type, variable.shape);
    // Small integers and their bit patterns as floats; indices out of range are among them.
    for (size_t i = 0; i < tensor.byteSize(); i += byteWidth(variable.type))
      tensor.mutableBytes()[i] = static_cast<std::byte>(variable.type == ElementType::boolean ? i / 2 % 2 : i % 11);
    inputs[variable.name] = tensor;
  }
  auto result = theHost().simulate(program, inputs, {});
  if (!result) {
    Reported reported = report(result.takeError());
    if (reported.exitCode == static_cast<int>(Fault::Internal))
      fail("a legal program meets a defect: " + reported.message);
    return;
  }
  for (const auto &[name, tensor] : result->outputs)
    if (!tensor.valid() || tensor.bytes().size() != tensor.byteSize())
      fail("output '" + name + "' is no tensor");
}

static void examine(const program::Program &program) {
  auto verdict = theHost().check(program);
  if (!verdict) {
    if (report(verdict.takeError()).exitCode != static_cast<int>(Fault::User))
      fail("an unreadable program is not the user's fault");
    return;
  }
  if (!verdict->legal()) {
    auto result = theHost().simulate(program, {}, {});
    if (result)
      fail("an illegal program was executed: " + verdict->findings[0].message);
    llvm::consumeError(result.takeError());
    return;
  }
  llvm::consumeError(theHost().estimate(program).takeError());
  if (isSmall(program))
    execute(program);
}

static std::string print(const program::Program &program, bool &printed) {
  std::string text;
  llvm::raw_string_ostream os(text);
  printed = !errorToBool(theHost().disassemble(program, os));
  return os.str();
}

static program::Program assemble(llvm::StringRef text) {
  return llvm::cantFail(theHost().assemble(text, "base"));
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  llvm::StringRef text(reinterpret_cast<const char *>(data), size);
  if (size >= 8 && text.substr(4, 4) == "QHST") {
    static const program::Program base = assemble(R"(.target host
.machine-description
| host
.node "Add_0" "Add"
.input "x" f32[3,4,5]
.input "y" f32[3,4,5]
.output "sum" f32[3,4,5]
.entry "inference" "x" "y" -> "sum"
)");
    program::Program program = base;
    program.setPayload(std::vector<std::byte>(reinterpret_cast<const std::byte *>(data),
                                              reinterpret_cast<const std::byte *>(data) + size));
    examine(program);
    return 0;
  }
  // Machines by name come from files, which are another fuzzer's matter.
  if (text.contains(".machine "))
    return 0;
  auto program = theHost().assemble(text, "p.txt");
  if (!program) {
    if (report(program.takeError()).exitCode != static_cast<int>(Fault::User))
      fail("bad text is not the user's fault");
    return 0;
  }
  bool printed = false;
  std::string first = print(*program, printed);
  if (printed) { // text that is not UTF-8 is refused
    auto again = theHost().assemble(first, "printed");
    if (!again)
      fail("printed text cannot be read: " + report(again.takeError()).message);
    if (print(*again, printed) != first)
      fail("it prints differently the second time");
  }
  examine(*program);
  return 0;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Mutation of one number, word or field: bytes alone seldom leave a text that parses.
//===--------------------------------------------------------------------------------------------------------------===//

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maximumSize);

namespace {

class TextMutator {
public:
  TextMutator(llvm::StringRef text, unsigned seed) : text(text.str()), random(seed) {}

  std::string mutate() {
    for (size_t rounds = 1 + pick(3); rounds != 0; --rounds)
      switch (pick(4)) {
      case 0:
        replaceNumber();
        break;
      case 1:
        replaceWord();
        break;
      case 2:
        moveLine();
        break;
      default:
        mutateField();
      }
    return text;
  }

private:
  size_t pick(size_t count) { return random() % count; }

  struct Span {
    size_t at, size;
  };

  void replace(Span span, llvm::StringRef by) { text.replace(span.at, span.size, by.str()); }

  void replaceNumber() {
    std::vector<Span> numbers;
    for (size_t i = 0; i < text.size(); ++i) {
      if (!llvm::isDigit(text[i]) || (i > 0 && (llvm::isAlnum(text[i - 1]) || text[i - 1] == '_')))
        continue;
      size_t end = i;
      while (end < text.size() && llvm::isDigit(text[end]))
        ++end;
      numbers.push_back({i, end - i});
      i = end;
    }
    if (numbers.empty())
      return;
    static constexpr const char *notable[] = {"0",
                                              "1",
                                              "2",
                                              "3",
                                              "4",
                                              "5",
                                              "7",
                                              "8",
                                              "-1",
                                              "-2",
                                              "16",
                                              "64",
                                              "256",
                                              "65535",
                                              "4294967295",
                                              "60",
                                              "2147483647",
                                              "1099511627776",
                                              "1048576",
                                              "6",
                                              "9223372036854775807",
                                              "-9223372036854775808"};
    // Another number of the program, mostly: extents and ids fit more often that way.
    Span target = numbers[pick(numbers.size())], source = numbers[pick(numbers.size())];
    replace(target, pick(2) ? text.substr(source.at, source.size) : notable[pick(std::size(notable))]);
  }

  void replaceWord() {
    std::vector<Span> words;
    for (size_t i = text.find('"'); i != std::string::npos; i = text.find('"', i)) {
      size_t end = text.find('"', i + 1);
      if (end == std::string::npos)
        break;
      words.push_back({i, end + 1 - i});
      i = end + 1;
    }
    if (words.empty())
      return;
    static constexpr const char *notable[] = {"\"f32\"",          "\"f64\"",        "\"f16\"",
                                              "\"i64\"",          "\"i32\"",        "\"u8\"",
                                              "\"i8\"",           "\"bool\"",       "\"sum\"",
                                              "\"maximum\"",      "\"none\"",       "\"product\"",
                                              "\"and\"",          "\"constant\"",   "\"input\"",
                                              "\"reshape\"",      "\"concat\"",     "\"scan\"",
                                              "\"gather\"",       "\"gather_nd\"",  "\"top_k\"",
                                              "\"sort\"",         "\"contract\"",   "\"insert_slice\"",
                                              "\"composite\"",    "\"arg_reduce\"", "\"gather_elements\"",
                                              "\"window\"",       "\"cumulative\"", "\"random_bits\"",
                                              "\"intermediate\"", "\"scatter_nd\"", "\"scatter_elements\"",
                                              "\"convert\"",      "\"divide\"",     "\"shift_left\"",
                                              "\"bitcast\"",      "\"loop_index\"", "\"select\"",
                                              "\"power\""};
    Span target = words[pick(words.size())], source = words[pick(words.size())];
    replace(target, pick(2) ? text.substr(source.at, source.size) : notable[pick(std::size(notable))]);
  }

  void moveLine() { // copied, removed or put elsewhere
    llvm::SmallVector<llvm::StringRef> lines;
    std::string before = text;
    llvm::StringRef(before).split(lines, '\n');
    size_t from = pick(lines.size()), to = pick(lines.size()), what = pick(3);
    llvm::StringRef line = lines[from];
    if (what != 0)
      lines.erase(lines.begin() + static_cast<ptrdiff_t>(from));
    if (what != 1)
      lines.insert(lines.begin() + static_cast<ptrdiff_t>(std::min(to, lines.size())), line);
    text = llvm::join(lines, "\n");
  }

  void mutateField() {
    if (llvm::StringRef(text).contains(".machine "))
      return;
    auto program = theHost().assemble(text, "");
    if (!program)
      return llvm::consumeError(program.takeError());
    auto mutation = theHost().mutate(*program, random());
    if (!mutation)
      return llvm::consumeError(mutation.takeError());
    bool printed = false;
    std::string after = print(mutation->program, printed);
    if (printed)
      text = after;
  }

  std::string text;
  std::minstd_rand random;
};

} // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t maximumSize, unsigned seed) {
  llvm::StringRef text(reinterpret_cast<const char *>(data), size);
  if (seed % 8 == 0 || size == 0 || text.substr(4, 4) == "QHST")
    return LLVMFuzzerMutate(data, size, maximumSize);
  std::string mutated = TextMutator(text, seed).mutate();
  if (mutated.size() > maximumSize)
    return LLVMFuzzerMutate(data, size, maximumSize);
  std::memcpy(data, mutated.data(), mutated.size());
  return mutated.size();
}
