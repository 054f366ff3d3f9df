// Payloads and layouts that no tool of this target writes: their work is in proportion to their size.
#include "target/tsp/Code.h"
#include "target/tsp/Program_generated.h"
#include "target/tsp/TestProgram.h"

#include "gtest/gtest.h"

namespace quadrille::tsp {
namespace {

std::string decodeError(const flatbuffers::FlatBufferBuilder &builder) {
  auto code = Code::decode({reinterpret_cast<const std::byte *>(builder.GetBufferPointer()), builder.GetSize()});
  return code ? "" : report(code.takeError()).message;
}

// `entries` entries that are all the same one, of `chips` times the same chip, of `queues` times the same queue.
std::string sharedTables(size_t entries, size_t chips, size_t queues) {
  flatbuffers::FlatBufferBuilder builder;
  fbs::QueueName name(fbs::Unit::Memory, 0, 0, 0);
  auto queue = fbs::CreateQueue(builder, &name);
  auto chip = fbs::CreateChip(builder, builder.CreateVector(std::vector(queues, queue)));
  auto entry = fbs::CreateEntry(builder, builder.CreateVector(std::vector(chips, chip)));
  auto all = builder.CreateVector(std::vector(entries, entry));
  fbs::FinishProgramBuffer(builder, fbs::CreateProgram(builder, all));
  return decodeError(builder);
}

TEST(TspCode, SharedTablesAreRefused) {
  EXPECT_EQ(sharedTables(1, 1, 1), "");
  // Each would be 27 million queues in 1.2 KB.
  EXPECT_EQ(sharedTables(300, 300, 300),
            "the program's tsp section is damaged: it is not a valid FlatBuffer with the identifier QTSP; compile or "
            "assemble it again");
}

TEST(TspCode, SharedVectorsAreRefused) {
  flatbuffers::FlatBufferBuilder builder;
  fbs::QueueName name(fbs::Unit::Memory, 0, 0, 0);
  auto instructions = builder.CreateVectorOfStructs(std::vector<fbs::Instruction>(1000));
  std::vector<flatbuffers::Offset<fbs::Queue>> queues;
  for (int i = 0; i < 1000; ++i)
    queues.push_back(fbs::CreateQueue(builder, &name, instructions));
  auto chip = fbs::CreateChip(builder, builder.CreateVector(queues));
  auto entry = fbs::CreateEntry(builder, builder.CreateVector({chip}));
  auto all = builder.CreateVector({entry});
  fbs::FinishProgramBuffer(builder, fbs::CreateProgram(builder, all));
  EXPECT_EQ(decodeError(builder), "the program's tsp section is damaged: two of its parts share their contents; "
                                  "compile or assemble it again");
}

TEST(TspCode, ALayoutOfManyAxes) {
  // An axis of extent 1 changes nothing, and a file has room for any number of them.
  std::string axes;
  for (int i = 0; i < 200'000; ++i)
    axes += ".axis dimension=0 extent=1 to=address step=0\n";
  program::Program program = assembleOrFail(R"(.target tsp
.machine unit-tsp
.weight "w" i8[4]
.data 01020304
.output "y" i8[4]
.entry "inference" -> "y"
.layout weight "w" bank=0 address=3 slices=w0
)" + axes + R"(.axis dimension=0 extent=4 to=lane step=1
.layout output "y" bank=1 address=7 slices=e5
.axis dimension=0 extent=4 to=lane step=1
.code "inference"
.chip 0
.queue MEM west 0
read bank=0 address=3 stream=e9
.queue MEM east 5
.at 5
write bank=1 address=7 stream=e9
)");
  EXPECT_EQ(firstFinding(program), "");
  auto result = target::find("tsp")->simulate(program, {}, {});
  ASSERT_TRUE(bool(result));
  const Tensor &y = result->outputs.at("y");
  EXPECT_EQ(std::vector(y.data<int8_t>(), y.data<int8_t>() + 4), (std::vector<int8_t>{1, 2, 3, 4}));
}

} // namespace
} // namespace quadrille::tsp
