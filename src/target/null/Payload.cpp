#include "target/null/Payload.h"

#include "base/Error.h"

namespace quadrille::null_machine {

llvm::Expected<const schema::Program *> payloadOf(const program::Program &program) {
  if (program.target != "null")
    return userError("the program is for target '" + llvm::Twine(program.target) + "', not 'null'");
  llvm::ArrayRef<std::byte> payload = program.payload();
  const auto *bytes = reinterpret_cast<const uint8_t *>(payload.data());
  // A kernel table takes more than eight bytes, so this admits every buffer that shares none.
  flatbuffers::Verifier verifier(bytes, payload.size(), /*max_depth=*/8,
                                 static_cast<flatbuffers::uoffset_t>(payload.size() / 8));
  if (payload.size() < 8 || payload.size() >= FLATBUFFERS_MAX_BUFFER_SIZE || !schema::VerifyProgramBuffer(verifier))
    return userError("the payload is not a valid null program");
  return schema::GetProgram(bytes);
}

void setPayload(program::Program &program, const schema::ProgramT &contents) {
  flatbuffers::FlatBufferBuilder builder;
  schema::FinishProgramBuffer(builder, schema::Program::Pack(builder, &contents));
  const auto *data = reinterpret_cast<const std::byte *>(builder.GetBufferPointer());
  program.setPayload({data, data + builder.GetSize()});
}

} // namespace quadrille::null_machine
