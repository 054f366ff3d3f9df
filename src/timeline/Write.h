// A timeline as a file. All writers give the same bytes for the same timeline.
#pragma once

#include "timeline/Timeline.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace quadrille::timeline {

// Perfetto's protobuf trace (ui.perfetto.dev opens it). Times are cycles converted to nanoseconds at the device clock,
// rounded; the cycles themselves are annotations. Without a clock one cycle is written as one nanosecond. Spans of one
// track that overlap without nesting go to further lanes of the same name, which the viewer shows together.
void writePerfetto(const Timeline &timeline, llvm::raw_ostream &os);

// One line a span: track, category, name, kernel, kind, nodes (separated by ';'), interval, begin_cycle, end_cycle. RFC
// 4180.
void writeCsv(const Timeline &timeline, llvm::raw_ostream &os);

// Everything, with the summary of timeline/Summary.h, as one JSON object.
void writeJson(const Timeline &timeline, llvm::raw_ostream &os);

// The same to a file, atomically.
llvm::Error writePerfettoFile(const Timeline &timeline, llvm::StringRef path);
llvm::Error writeCsvFile(const Timeline &timeline, llvm::StringRef path);

// "chip 0/MEM west 12"
std::string pathOf(const Timeline &timeline, TrackId track);

} // namespace quadrille::timeline
